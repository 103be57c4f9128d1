"""Collectives of compiled programs, as the benchmark finds them."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks.step_traffic import Collective, compile_steps, list_collectives
from mca_jax.core.parallel import DATA_AXIS, data_mesh, over_devices


def test_bytes_by_hand():
    text = """
  %all-reduce.1 = (f32[10,4]{1,0}, s32[]) all-reduce(%a, %b), metadata={op_name="x"}
  ROOT %y = f32[2,4]{1,0} reduce-scatter(%z), metadata={op_name="jit(f)/while/body/p"}
  %no = f32[1000]{0} add(%all-reduce.1, %y)
"""
    assert list_collectives(text) == [
        Collective("all-reduce", "f32[10,4] s32[]", 164, False),
        Collective("reduce-scatter", "f32[2,4]", 32, True),
    ]
    # Around a ring of four: three quarters of it twice, and three of four blocks.
    sent = [each.sent(4) for each in list_collectives(text)]
    assert sent == [2 * 0.75 * 164, 3 * 32]
    assert Collective("all-gather", "", 100, True).sent(4) == 75
    assert Collective("collective-permute", "", 100, True).sent(4) == 100


def test_what_a_compiled_function_sends():
    def run(x):
        def body(_, total):
            return total + jax.lax.psum(jnp.cos(total), DATA_AXIS)

        once = jax.lax.all_gather(x, DATA_AXIS, tiled=True)
        return jax.lax.fori_loop(0, 3, body, once)

    mapped = over_devices(run, data_mesh(8), split=(True,))
    text = mapped.lower(jnp.zeros((16, 5))).compile().as_text()
    found = {each.kind: each for each in list_collectives(text)}
    assert found["all-gather"].num_bytes == 16 * 5 * 4
    assert not found["all-gather"].each_step
    assert found["all-reduce"].num_bytes == 16 * 5 * 4
    assert found["all-reduce"].each_step


@pytest.mark.slow
def test_a_step_sends_weights_and_columns():
    program = compile_steps(
        data_mesh(8), images=4000, batch=512, clusters=40, width=16, nouns=300
    )
    found = list_collectives(program.as_text())
    # In the loop over steps, nothing beside it.
    assert all(each.each_step for each in found)
    shapes = " ".join(each.shapes for each in found)
    # The contrast of the clusters' columns, each with each.
    assert "f32[40,40]" in shapes
    # An anchor's row goes to the device whose share of the batch it is in.
    rows = [each for each in found if each.shapes == "f32[64,16]"]
    assert [each.kind for each in rows] == ["reduce-scatter"] * 2
    assert rows[0].num_bytes == 64 * 16 * 4
