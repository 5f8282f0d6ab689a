"""The table of routers: what the HTTP door answers to.

Each row names a function `(door: Door) -> APIRouter`, imported when the door opens.
"""

HEALTH = ("bedside.http_api.health:make_router",)
"""What the listener for health answers to."""

ROUTERS = (
    *HEALTH,
    "bedside.http_api.models:make_router",
    "bedside.http_api.page:make_router",
    "bedside.http_api.segmentation:make_router",
    "bedside.http_api.job_routes:make_router",
    "bedside.http_api.live:make_router",
    "bedside.http_api.inference_protocol.router:make_router",
    "bedside.http_api.monai_label.router:make_router",
    "bedside.http_api.dicomweb.router:make_router",
)
