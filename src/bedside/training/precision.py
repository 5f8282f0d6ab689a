"""Mixed precision where the processor supports it."""

import torch


def has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 products are done in hardware there."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def mixed_precision(device: torch.device) -> torch.autocast:
    """Autocast to bfloat16, where the hardware supports it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=has_bf16(device))
