/** Times as the API writes them and as people read them. */

/**
 * Seconds of `HH:MM:SS.mmm`; NaN for anything else.
 * @param {string} text
 */
export function secondsOf(text) {
  const parts = /^(\d+):(\d\d):(\d\d(?:\.\d+)?)$/.exec(text);
  return parts ? Number(parts[1]) * 3600 + Number(parts[2]) * 60 + Number(parts[3]) : NaN;
}

/**
 * `1:02.3`, `1:00:02.3`: what a person reads.
 * @param {number} seconds
 */
export function clockTime(seconds) {
  const tenths = Math.max(0, Math.round(seconds * 10));
  const [hours, minutes, rest] = [Math.floor(tenths / 36000), Math.floor(tenths / 600) % 60, (tenths % 600) / 10];
  const padded = rest.toFixed(1).padStart(4, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${padded}` : `${minutes}:${padded}`;
}

/**
 * `3.4 MB`, in steps of 1000 as file managers count.
 * @param {number} bytes
 */
export function sizeText(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const step = bytes < 1000 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(bytes) / 3));
  const size = bytes / 1000 ** step;
  return `${size < 10 && step ? size.toFixed(1) : Math.round(size)} ${units[step]}`;
}
