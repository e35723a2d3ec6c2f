// The guided tour: what each step shows, and what it says. A link `#tour=2` restores a step.

export const TOUR = [
  {
    title: "The zig-zag",
    state: { view: "taken", show: ["learned", "constant"] },
    text: [
      "Eight steps of gradient descent are being trained in your browser, one layer after the other. " +
        "Look at “The steps”: they alternate between long and short. No rule told them to.",
      "Look at “Convergence”: the first long steps raise the error, and the short ones bring it down again. " +
        "After eight it is far below that of the best constant step.",
      "Move “Trained layers” from 1 to 8 to see the zig-zag grow.",
    ],
  },
  {
    title: "Why it zig-zags",
    state: { view: "taken", layers: 3, show: ["learned", "constant"] },
    text: [
      "A step γ multiplies the error along the eigenvalue λ by 1 − γλ: it removes the error where λ = 1/γ. " +
        "A long step does that for a small eigenvalue and makes the error of large ones larger; shorter " +
        "steps in other layers repair that.",
      "A new layer starts in the middle of the steps learned so far, and keeps that place. The layers " +
        "before it move outwards. So the first two end as the longest and the shortest step.",
      "Three layers are trained here, and “What a period leaves” has three zeros. " +
        "Move “Trained layers”: every new layer adds one.",
    ],
  },
  {
    title: "What the steps are",
    state: { view: "sorted", show: ["learned", "chebyshev", "optimal"] },
    text: [
      "Sort the same steps. Most of them lie where Chebyshev steps lie, which nobody trained: they follow " +
        "from the two ends of the spectrum. Optimal steps are where a perfect training ends.",
      "The longest learned steps are too short: this training is not finished. " +
        "Choose 2000 iterations per step, and they come closer to the optimal ones.",
    ],
  },
  {
    title: "Best for the worst, best on average",
    state: { view: "sorted", show: ["chebyshev", "optimal", "constant"] },
    text: [
      "“What a period leaves” shows the factor for every eigenvalue. All peaks of Chebyshev steps are of " +
        "one height: no other eight steps have a smaller largest factor.",
      "Optimal steps have the smallest mean over the eigenvalues that are there. They let the factor grow " +
        "where eigenvalues are few. The table has both numbers: mean squared error, and worst case.",
    ],
  },
  {
    title: "The order decides",
    state: {
      spectrum: "uniform",
      kappa: 1000,
      T: 32,
      precision: "float32",
      order: "ascending",
      training: 0,
      view: "taken",
      show: ["chebyshev", "constant"],
    },
    text: [
      "In exact arithmetic the order of the steps changes nothing. Here 32 Chebyshev steps are taken " +
        "from the shortest to the longest, in float32. The broad line is the prediction, the thin line is " +
        "what comes out: rounding errors have grown until no digit is left.",
      "Set “Order” to “each schedule’s own”, and the two lines meet again.",
    ],
  },
];
