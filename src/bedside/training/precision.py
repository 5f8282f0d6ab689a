"""Half precision where the processor has it."""

import torch


def has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 products are done in hardware there."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def mixed_precision(device: torch.device) -> torch.autocast:
    """Compute what can be in bfloat16, where that is done in hardware."""
    return torch.autocast(device.type, torch.bfloat16, enabled=has_bf16(device))
