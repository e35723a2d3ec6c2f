"""Value iteration for a Markov decision process.

References:
    Puterman, Markov Decision Processes (1994), sections 6.3 (value iteration) and 6.4 (policy
    iteration). Archibald, McKinnon and Thomas, On the generation of Markov decision processes (J.
    Oper. Res. Soc. 46, 1995), for random ones.
"""

from __future__ import annotations

import numpy as np

from gallery.base import GALLERY, GalleryMap
from stepfold._typing import FloatArray


@GALLERY.register("value_iteration")
def value_iteration(rng: np.random.Generator) -> GalleryMap:
    """Values of 60 states with 4 actions each, 5 states to end in, discount 0.95.

    The map has kinks where another action becomes the best one. The solution is by policy
    iteration, which solves a linear system for each policy.
    """
    states, actions, branches, discount = 60, 4, 5, 0.95
    moves = np.zeros((states, actions, states))
    for state in range(states):
        for action in range(actions):
            ends = rng.choice(states, branches, replace=False)
            moves[state, action, ends] = rng.dirichlet(np.ones(branches))
    rewards = rng.random((states, actions))

    def improve(values: FloatArray) -> FloatArray:
        best: FloatArray = (rewards + discount * moves @ values).max(1)
        return best

    return GalleryMap(improve, np.zeros(states), policy_iteration(moves, rewards, discount))


def policy_iteration(moves: FloatArray, rewards: FloatArray, discount: float) -> FloatArray:
    """Values of the best policy, by solving for one policy after the other.

    Args:
        moves: Probabilities, shape (states, actions, states).
        rewards: Shape (states, actions).
        discount: Below 1.
    """
    index = np.arange(len(rewards))
    policy = np.zeros(len(rewards), dtype=int)
    while True:
        system = np.eye(len(rewards)) - discount * moves[index, policy]
        values: FloatArray = np.asarray(np.linalg.solve(system, rewards[index, policy]), float)
        gains = rewards + discount * moves @ values
        # Another action only if it is better by more than rounding, so that this ends.
        better = gains.max(1) > gains[index, policy] + 1e-12 * abs(gains).max()
        if not better.any():
            return values
        policy = np.where(better, gains.argmax(1), policy)
