"""Many devices and hosts: one axis, named collectives, rows split over it."""

from mca_jax.parallel.budget import place_images
from mca_jax.parallel.drivers import Driver, over_devices
from mca_jax.parallel.ending import end_with_others, watch_others
from mca_jax.parallel.hosts import (
    JOIN_TIMEOUT,
    is_first_host,
    join_hosts,
    on_first_host,
    same_on_all_hosts,
)
from mca_jax.parallel.mesh import DATA_AXIS, data_mesh, default_mesh
from mca_jax.parallel.rows import (
    HostRows,
    Rows,
    ShardedRows,
    Table,
    fetch,
    mesh_of,
    place_batch,
    place_like,
    place_rows,
    replicate,
)

__all__ = [
    "DATA_AXIS",
    "Driver",
    "HostRows",
    "JOIN_TIMEOUT",
    "Rows",
    "ShardedRows",
    "Table",
    "data_mesh",
    "default_mesh",
    "end_with_others",
    "fetch",
    "is_first_host",
    "join_hosts",
    "mesh_of",
    "on_first_host",
    "over_devices",
    "place_batch",
    "place_images",
    "place_like",
    "place_rows",
    "replicate",
    "same_on_all_hosts",
    "watch_others",
]
