"""MuJoCo MJX: a rollout with contact. The contact solver is a while loop, which `jax.grad` refuses."""

import functools

import jax.numpy as jnp
import mujoco
from mujoco import mjx

from tests.libraries.program import Program

BALL = """
<mujoco>
  <option timestep="0.005" solver="{solver}" iterations="{iterations}" ls_iterations="8" tolerance="0"/>
  <worldbody>
    <geom type="plane" size="2 2 .1"/>
    <body pos="0 0 0.09">
      <joint type="slide" axis="1 0 0"/><joint type="slide" axis="0 0 1"/><joint type="hinge" axis="0 1 0"/>
      <geom type="sphere" size="0.1" mass="1"/>
    </body>
  </worldbody>
</mujoco>
"""


@functools.cache
def rollout(solver: str, iterations: int, steps: int = 3):
    """Make the function from positions and velocities to a score after a few steps in contact with the ground."""
    model = mjx.put_model(mujoco.MjModel.from_xml_string(BALL.format(solver=solver, iterations=iterations)))
    start = mjx.make_data(model)

    def score(state):
        qpos, qvel = state
        data = start.replace(qpos=qpos, qvel=qvel)
        for _ in range(steps):
            data = mjx.step(model, data)
        return jnp.sum(jnp.sin(data.qpos)) + 0.1 * jnp.sum(data.qvel**2)

    return score


STATE = (jnp.array([0.1, 0.005, 0.2]), jnp.array([0.5, -0.3, 1.0]))

PROGRAMS = {
    "three steps in contact, Newton": Program(rollout("Newton", 5), STATE, "differences", vmap=False, tolerance=1e-5),
    "three steps in contact, CG": Program(rollout("CG", 30), STATE, "differences", vmap=False, tolerance=1e-5),
}
