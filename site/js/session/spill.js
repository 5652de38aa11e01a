/** Where a ring's older samples go: one IndexedDB store per stream, emptied when the stream is over. */

const DATABASE = "whisperlive-ring";
const PIECES = "pieces";

/** `put`, `get` and `remove` by the number of a piece's first sample; every method rejects where the browser refuses. */
export class Spill {
  #database = null;

  async put(first, samples) {
    await this.#do("readwrite", (pieces) => pieces.put(samples, first));
  }

  /** @returns {Promise<Float32Array | undefined>} */
  get(first) {
    return this.#do("readonly", (pieces) => pieces.get(first));
  }

  async remove(first) {
    await this.#do("readwrite", (pieces) => pieces.delete(first));
  }

  /** Forget everything; nothing happens where nothing was ever put. */
  async clear() {
    if (this.#database) await this.#do("readwrite", (pieces) => pieces.clear());
  }

  async #do(mode, work) {
    this.#database ??= opened();
    const transaction = (await this.#database).transaction(PIECES, mode);
    const request = work(transaction.objectStore(PIECES));
    return new Promise((resolve, reject) => {
      transaction.oncomplete = () => resolve(request.result);
      transaction.onabort = transaction.onerror = () => reject(transaction.error);
    });
  }
}

/** The database, empty: what an earlier page left there is of no use to this one. */
function opened() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(DATABASE, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(PIECES);
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
