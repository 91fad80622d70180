/**
 * An MP4 whose index (`moov`) lies behind its frames can't be decoded before the index is there: then its end goes first.
 * The same rules as in the Python client.
 */

/** CONTRACT: `X-Tail-Bytes` is 1 byte to 64 MiB. */
const TAIL_BYTES_MAX = 64 * 1024 * 1024;
/** Boxes looked at before the first `moov`; a file with more is sent in its own order. */
const BOXES_MAX = 1000;
const FIRST_TYPES = new Set(["ftyp", "moov", "mdat", "free", "skip", "wide", "pnot", "uuid"]);

/**
 * How many bytes of the end go first; 0 if the file's own order is best: other containers, broken boxes, a tail too long.
 * @param {Blob} file @returns {Promise<number>}
 */
export async function tailBytes(file) {
  let offset = 0;
  let mediaEnd = 0;
  for (let index = 0; index < BOXES_MAX; index += 1) {
    const box = await boxAt(file, offset);
    if (!box || (index === 0 && !FIRST_TYPES.has(box.type))) return 0;
    if (box.type === "moov") {
      const tail = mediaEnd ? file.size - mediaEnd : 0;
      return tail <= TAIL_BYTES_MAX ? tail : 0;
    }
    if (box.type === "mdat") mediaEnd = box.end;
    offset = box.end;
  }
  return 0;
}

/**
 * The body in the order in which it is sent; nothing of it is read here.
 * @param {Blob} file @param {number} tail
 */
export function tailFirst(file, tail) {
  return tail ? new Blob([file.slice(file.size - tail), file.slice(0, file.size - tail)]) : file;
}

/**
 * The top-level box at an offset, null if there is none or it does not fit into the file.
 * @param {Blob} file @param {number} offset
 */
async function boxAt(file, offset) {
  const header = new DataView(await file.slice(offset, offset + 16).arrayBuffer());
  if (header.byteLength < 8) return null;
  const type = String.fromCharCode(...[4, 5, 6, 7].map((at) => header.getUint8(at)));
  let length = header.getUint32(0);
  let least = 8;
  if (length === 0) length = file.size - offset; // up to the end of the file
  else if (length === 1) {
    if (header.byteLength < 16) return null;
    length = Number(header.getBigUint64(8));
    least = 16;
  }
  return length < least || offset + length > file.size ? null : { type, end: offset + length };
}
