"""The table of routers: what the HTTP door answers to.

Each row names a function `(door: Door) -> APIRouter`, imported when the door opens.
"""

ROUTERS = (
    "bedside.http_api.models:make_router",
    "bedside.http_api.segmentation:make_router",
)
