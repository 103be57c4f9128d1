"""Many devices and hosts: one axis, named collectives, rows split over it."""

from mca_jax.core.parallel.budget import shard_images
from mca_jax.core.parallel.drivers import Driver, over_devices
from mca_jax.core.parallel.ending import end_with_others, watch_others
from mca_jax.core.parallel.hosts import (
    JOIN_TIMEOUT,
    is_first_host,
    join_hosts,
    on_first_host,
    same_on_all_hosts,
)
from mca_jax.core.parallel.mesh import DATA_AXIS, data_mesh, default_mesh
from mca_jax.core.parallel.rows import (
    HostRows,
    Rows,
    ShardedRows,
    Table,
    compute,
    fetch,
    fetch_rows,
    first_columns,
    fold_pairs,
    map_neighborhoods,
    map_rows,
    mesh_of,
    reduce_rows,
    replicate,
    shard_like,
    shard_picked,
    shard_rows,
)
from mca_jax.core.parallel.shares import (
    exchange,
    fill_shares,
    host_share,
    sum_over_hosts,
)

__all__ = [
    "DATA_AXIS",
    "Driver",
    "HostRows",
    "JOIN_TIMEOUT",
    "Rows",
    "ShardedRows",
    "Table",
    "compute",
    "data_mesh",
    "default_mesh",
    "end_with_others",
    "exchange",
    "fetch",
    "fetch_rows",
    "fill_shares",
    "first_columns",
    "fold_pairs",
    "host_share",
    "is_first_host",
    "join_hosts",
    "map_neighborhoods",
    "map_rows",
    "mesh_of",
    "on_first_host",
    "over_devices",
    "reduce_rows",
    "shard_images",
    "shard_like",
    "shard_picked",
    "shard_rows",
    "replicate",
    "same_on_all_hosts",
    "sum_over_hosts",
    "watch_others",
]
