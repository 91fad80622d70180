/** The colour of a class: what the model's class list states, else one of ours. */

/** The first six are those of the boxes that `detections run` draws. */
const OURS = [
  "#ffc800", "#3cdc3c", "#5aa0ff", "#ff6e50", "#e66ee6", "#00dcdc",
  "#b4f03c", "#ff96c8", "#a08cff", "#ffaa5a", "#78e6b4", "#d2b48c",
];
const [DARK, LIGHT] = ["#14181c", "#ffffff"];
/** Relative luminance above which dark ink has more contrast than light ink (WCAG 2.2). */
const DARK_INK_FROM = 0.2;

/** @type {Record<string, string>} By class number. */
let stated = {};

/**
 * Take what the service says of its model.
 * @param {Record<string, string>} colours `#rrggbb` by class number @returns {boolean} whether they are others than before
 */
export function useColours(colours) {
  if (JSON.stringify(colours) === JSON.stringify(stated)) return false;
  stated = colours;
  return true;
}

/** @param {number} classNum */
export function colourOf(classNum) {
  return stated[classNum] ?? OURS[((classNum % OURS.length) + OURS.length) % OURS.length];
}

/** The ink that can be read on a colour. @param {string} colour `#rrggbb` */
export function inkOn(colour) {
  const [red, green, blue] = [1, 3, 5].map((at) => {
    const share = parseInt(colour.slice(at, at + 2), 16) / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > DARK_INK_FROM ? DARK : LIGHT;
}
