"""The whole way in forty lines: data and a layer of one's own, trained, explained and exported.

Sparse positive signals are seen through random sums. A layer takes a step towards the data and cuts
off what is below a threshold; a step size and a threshold are learned for each of eight layers.

    python examples/tutorial.py     prints errors, writes explained/ (a report) and learned.npz
"""

import dataclasses

import numpy as np
import torch
from torch.utils.data import TensorDataset

from stepfold import LeastSquares, Schedule, estimate_bounds
from stepfold.lab import Axis, Curve, Figure, Section
from stepfold.lab.report import write_run
from stepfold.unfolded import DataSetSampler, Sample, UnfoldedIteration, incremental, train

# The data set: what is seen, and what should come out. The last 200 are for the test.
rng = np.random.default_rng(0)
A = rng.standard_normal((32, 64)) / np.sqrt(32)
signals = rng.exponential(size=(1200, 64)) * (rng.random((1200, 64)) < 0.06)
seen = signals @ A.T + 0.01 * rng.standard_normal((1200, 32))
matrix, y, x = (torch.from_numpy(values) for values in (A, seen, signals))


# A batch as the network takes it: what layers see, what should come out, and the start.
def pose(batch):
    return Sample(batch[0], batch[1], torch.zeros_like(batch[1]))


# The layer: `params` has its step size, and its other parameters by the names given below.
def layer(x, params, y):
    return torch.relu(x - params.step * (x @ matrix.T - y) @ matrix - params.threshold)


# The network starts from a step that is safe, and is trained layer by layer.
safe = 1 / estimate_bounds(LeastSquares(A, seen[0])).upper
net = UnfoldedIteration(Schedule([safe] * 8), iteration=layer, parameters={"threshold": safe / 10})
test = pose((y[1000:], x[1000:]))


def errors():
    with torch.no_grad():
        layers = [test.start, *net(test.data, test.start, every_layer=True)]
    return np.array([float(((output - test.target) ** 2).mean()) for output in layers])


rows = {"untrained": errors()}
sampler = DataSetSampler(TensorDataset(y[:1000], x[:1000]), batch_size=100, pose=pose)
run = train(net, sampler, incremental(8, 60), optimizer=lambda p: torch.optim.Adam(p, lr=0.02))
rows["learned"] = errors()

# A figure and an explanation, in one report.
lines = tuple(Curve(name, np.arange(9), row, style="both") for name, row in rows.items())
alt, axes = "Learned layers end below untrained ones.", (Axis("layer"), Axis("error", log=True))
figure = Figure("error", "Mean squared error", alt, lines, *axes)
outcome = net.explain(test.data, test.start, run=run)
sections = [Section("Error", ("Of 200 signals not seen in training.",), figure), *outcome.sections]
outcome = dataclasses.replace(outcome, sections=sections)
print(outcome.summary, write_run(outcome, "explained", seconds=run.history.seconds[-1]), sep="\n")

# Export: arrays, and a loop over them that needs nothing but NumPy.
learned, found = net.export(), np.zeros((200, 64))
np.savez("learned.npz", **learned)
for gamma, threshold in zip(learned["steps"], learned["threshold"], strict=True):
    found = np.maximum(found - gamma * (found @ A.T - seen[1000:]) @ A - threshold, 0)
print("untrained:", rows["untrained"][-1], "learned:", ((found - signals[1000:]) ** 2).mean())
