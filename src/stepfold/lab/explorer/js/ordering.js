// Orders in which to take T steps. In exact arithmetic none matters; in floating point all do.

function range(size) {
  return Array.from({ length: size }, (_, i) => i);
}

export function lebedevOrder(size) {
  let order = [0];
  for (const digit of size.toString(2).slice(1)) {
    const next = 2 * order.length + Number(digit);
    order = order.flatMap((k) => [k, next - 1 - k]);
    if (digit === "1") order.push(Math.floor(next / 2));
  }
  return order;
}

function lejaOrder(ascending) {
  const roots = ascending.map((gamma) => ascending[0] / gamma);
  const logs = new Float64Array(roots.length);
  const taken = new Array(roots.length).fill(false);
  const order = [];
  let index = 0;
  for (let position = 0; position < roots.length; position++) {
    order.push(index);
    taken[index] = true;
    for (let i = 0; i < roots.length; i++) logs[i] += Math.log(Math.abs(roots[i] - roots[index]));
    // Repeated roots have product 0; they come last, in any order. Symmetric roots tie: were
    // rounding to choose, the order would depend on the unit.
    const candidates = roots.map((_, i) => (taken[i] ? -Infinity : Math.max(logs[i], -1e300)));
    const best = Math.max(...candidates);
    index = candidates.findIndex((value) => value >= best - 1e-9);
  }
  return order;
}

// Each maps T ascending steps to a permutation of 0 … T − 1. The random one is NumPy's, which Python
// puts into the page.
export const ORDERS = {
  lebedev: (ascending) => lebedevOrder(ascending.length),
  leja: lejaOrder,
  fractal: (ascending) => lebedevOrder(ascending.length).map((k) => ascending.length - 1 - k),
  "outside-in": (ascending) =>
    range(ascending.length).map((k) => (k % 2 === 0 ? ascending.length - 1 - k / 2 : (k - 1) / 2)),
  random: (ascending, permutations) => permutations[ascending.length - 1],
  ascending: (ascending) => range(ascending.length),
  descending: (ascending) => range(ascending.length).reverse(),
};

export function safeOrder(size) {
  return (size & (size - 1)) === 0 ? "lebedev" : "leja";
}

export function reordered(steps, order, permutations) {
  const ascending = Array.from(steps).sort((x, y) => x - y);
  return ORDERS[order](ascending, permutations).map((k) => ascending[k]);
}

const OVERSAMPLING = 8;
const SLACK = -Math.log(Math.cos(Math.PI / (2 * OVERSAMPLING)));
const MOST_CANDIDATES = 64;

// Largest product of a head and of a tail of the factors over [lower, upper]: how far the error can
// grow on the way, and what multiplies a rounding error made on the way.
export function roundoffAmplification(steps, bounds) {
  return [largestHead(steps, bounds), largestHead(Array.from(steps).reverse(), bounds)];
}

function largestHead(steps, { lower, upper }) {
  const size = OVERSAMPLING * steps.length + 1;
  const grid = Float64Array.from(range(size), (i) => {
    const angle = (i * Math.PI) / (2 * (size - 1));
    return lower * Math.cos(angle) ** 2 + upper * Math.sin(angle) ** 2;
  });
  const logs = new Float64Array(size);
  const peaks = [];
  for (const gamma of steps) {
    let [peak, place] = [-Infinity, 0];
    for (let i = 0; i < size; i++) {
      logs[i] += Math.log(Math.abs(1 - gamma * grid[i]));
      if (logs[i] > peak) [peak, place] = [logs[i], i];
    }
    peaks.push({ peak, place, count: peaks.length + 1 });
  }
  let highest = Math.max(0, ...peaks.map(({ peak }) => peak));
  const near = peaks.filter(({ peak }) => peak >= highest - SLACK);
  near.sort((one, other) => other.peak - one.peak);
  for (const { place, count } of near.slice(0, MOST_CANDIDATES)) {
    const ends = [grid[Math.max(place - 1, 0)], grid[Math.min(place + 1, size - 1)]];
    highest = Math.max(highest, polished(steps.slice(0, count), ...ends));
  }
  return Math.exp(highest);
}

// Logarithm of the largest |p| in an interval: between two roots it is concave.
function polished(steps, left, right) {
  for (let round = 0; round < 40; round++) {
    const middle = left + (right - left) / 2;
    let slope = 0;
    for (const gamma of steps) slope -= gamma / (1 - gamma * middle);
    if (slope > 0) left = middle;
    else right = middle;
  }
  return steps.reduce((sum, gamma) => sum + Math.log(Math.abs(1 - gamma * left)), 0);
}
