/** What all plots' axes share: labels at the middle, without an arrow, inside the frame. */
export const X_AXIS = { labelAnchor: "center", labelArrow: "none", labelOffset: 40 } as const;
export const Y_AXIS = { labelAnchor: "center", labelArrow: "none" } as const;

/** Room below the frame for the ticks and the label of {@link X_AXIS}. */
export const X_AXIS_HEIGHT = 50;

/** The grid: hardly seen, on light and on dark. */
export const GRID = { stroke: "currentColor", strokeOpacity: 0.12 } as const;
