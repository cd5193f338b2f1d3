"""A training step under jax.jit, for bench/run: forward, backward and optax's Adam are one program of XLA's, called per
batch, and the memory of parameters and states is given to the call (donated), which updates it in place.
"""
from functools import partial

import jax
import optax
from jax import numpy as jnp

from common import BATCHES, LR, arguments, mean_us, report


def linear(key, inputs, outputs):
    bound = inputs ** -0.5  # as torch.nn.Linear begins
    weight, bias = (jax.random.uniform(part, shape, jnp.float32, -bound, bound)
                    for part, shape in zip(jax.random.split(key), [(inputs, outputs), (outputs,)]))
    return weight, bias


def loss_of(parameters, x, y):
    (first, first_bias), (second, second_bias) = parameters
    logits = jax.nn.relu(x @ first + first_bias) @ second + second_bias
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def main():
    case, _ = arguments("jax")
    keys = jax.random.split(jax.random.key(1), 2 + BATCHES)
    parameters = [linear(keys[0], 784, case.hidden), linear(keys[1], case.hidden, 10)]
    batches = [(jax.random.normal(key, (case.batch_size, 784)), jax.random.randint(key, (case.batch_size,), 0, 10))
               for key in keys[2:]]
    adam = optax.adam(LR)
    state = adam.init(parameters)

    @partial(jax.jit, donate_argnums=(0, 1))
    def train_step(parameters, state, x, y):
        loss, gradients = jax.value_and_grad(loss_of)(parameters, x, y)
        updates, state = adam.update(gradients, state)
        return optax.apply_updates(parameters, updates), state, loss

    def epoch(steps):
        nonlocal parameters, state
        for step in range(steps):
            x, y = batches[step % BATCHES]
            parameters, state, loss = train_step(parameters, state, x, y)
        jax.block_until_ready((parameters, state, loss))

    jax.block_until_ready(batches)
    report(us=mean_us(epoch, case))


if __name__ == "__main__":
    main()
