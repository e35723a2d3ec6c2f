// Gauss rules by Golub and Kahan's bidiagonalisation of √λ, which never squares what it need not.

function norm(vector) {
  let sum = 0;
  for (let i = 0; i < vector.length; i++) sum += vector[i] * vector[i];
  return Math.sqrt(sum);
}

function orthogonalise(vector, basis) {
  // Twice is enough: one sweep leaves a component of the size of the cancellation.
  for (let sweep = 0; sweep < 2; sweep++) {
    for (const other of basis) {
      let dot = 0;
      for (let i = 0; i < vector.length; i++) dot += other[i] * vector[i];
      for (let i = 0; i < vector.length; i++) vector[i] -= dot * other[i];
    }
  }
  return vector;
}

// Upper bidiagonal matrix of diag(root) from `start`; shorter where the Krylov space ends.
export function golubKahan(root, start, numSteps) {
  const size = root.length;
  const count = Math.min(numSteps, size);
  const length = norm(start);
  const right = [start.map((x) => x / length)];
  const left = [];
  const diagonal = [];
  const offDiagonal = [];
  let scale = 0;
  for (let k = 0; k < count; k++) {
    const image = orthogonalise(right[k].map((x, i) => root[i] * x), left);
    const alpha = norm(image);
    scale = Math.max(scale, alpha);
    const tolerance = size * Number.EPSILON * scale;
    if (alpha <= tolerance) {
      diagonal.push(0);
      offDiagonal.push(0);
      break;
    }
    diagonal.push(alpha);
    left.push(image.map((x) => x / alpha));
    if (k + 1 === size) {
      offDiagonal.push(0);
      break;
    }
    const vector = orthogonalise(left[k].map((x, i) => root[i] * x), right);
    const beta = norm(vector);
    scale = Math.max(scale, beta);
    if (beta <= tolerance) {
      offDiagonal.push(0);
      break;
    }
    offDiagonal.push(beta);
    right.push(vector.map((x) => x / beta));
  }
  return { diagonal, offDiagonal };
}

// Squares of the positive eigenvalues, ascending, of a path with these edges: by bisection on a
// tridiagonal matrix of diagonal 0, which finds each to nearly all its digits.
export function squaredSingularValues(path) {
  const numVertices = path.length + 1;
  const count = Math.floor(numVertices / 2);
  const squares = path.map((edge) => edge * edge);
  let bound = 0;
  for (let i = 0; i < numVertices; i++) {
    bound = Math.max(bound, (path[i - 1] ?? 0) + (path[i] ?? 0));
  }
  const below = (x) => {
    let pivot = -x;
    let negative = pivot < 0 ? 1 : 0;
    for (const square of squares) {
      pivot = -x - square / (pivot === 0 ? Number.MIN_VALUE : pivot);
      if (pivot < 0) negative += 1;
    }
    return negative;
  };
  return Array.from({ length: count }, (_, k) => {
    const index = numVertices - count + k;
    let low = 0;
    let high = bound * (1 + 4 * Number.EPSILON);
    while (high - low > 2 * Number.EPSILON * high && high > 1e-150) {
      const middle = (low + high) / 2;
      if (below(middle) > index) high = middle;
      else low = middle;
    }
    const value = (low + high) / 2;
    return value * value;
  });
}

function project(measure, weights, numNodes) {
  const top = measure.nodes[measure.nodes.length - 1];
  const kept = Array.from(weights.keys()).filter((i) => weights[i] > 0);
  const root = Float64Array.from(kept, (i) => Math.sqrt(measure.nodes[i] / top));
  const start = Float64Array.from(kept, (i) => Math.sqrt(weights[i]));
  return golubKahan(root, start, numNodes);
}

// The path d₁ e₁ d₂ e₂ … whose adjacency matrix has the singular values of the bidiagonal one.
function pathOf({ diagonal, offDiagonal }) {
  const path = diagonal.flatMap((entry, k) => [entry, offDiagonal[k]]);
  path.pop();
  if (path[path.length - 1] === 0) path.pop(); // a last entry 0 is a node at 0
  return path;
}

// Gauss nodes of λ dμ(λ), ascending; fewer where μ has fewer nodes above 0.
export function gaussNodesOfWeighted(measure, numNodes) {
  const top = measure.nodes[measure.nodes.length - 1];
  const weights = measure.nodes.map((node, i) => (node / top) * measure.weights[i]);
  const squares = squaredSingularValues(pathOf(project(measure, weights, numNodes)));
  return squares.map((square) => top * square);
}

// Gauss rule of μ with `numNodes` nodes: exact for all polynomials of degree below twice that.
export function quadrature(measure, numNodes) {
  const top = measure.nodes[measure.nodes.length - 1];
  const path = pathOf(project(measure, measure.weights, numNodes));
  const nodes = squaredSingularValues(path);
  if (path.length % 2 === 0) nodes.unshift(0);
  // Without its first row the matrix has nodes φ between the θ, and the weight of node j is
  // ∏ (θ_j − φ_k) / ∏ (θ_j − θ_i): quotients that all lie between 0 and 1.
  const inner = squaredSingularValues(path.slice(1)).map((value, k) =>
    Math.min(Math.max(value, nodes[k]), nodes[k + 1]),
  );
  const weights = nodes.map((node, j) => {
    let weight = 1;
    for (let k = 0; k + 1 < nodes.length; k++) {
      const difference = Math.abs(node - nodes[k < j ? k : k + 1]);
      if (difference > 0) weight *= Math.abs(node - inner[k]) / difference;
      else weight *= k < j ? 1 : 0;
    }
    return weight;
  });
  const sum = weights.reduce((total, weight) => total + weight, 0);
  return {
    nodes: Float64Array.from(nodes, (node) => node * top),
    weights: Float64Array.from(weights, (weight) => weight / sum),
  };
}
