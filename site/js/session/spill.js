/** Where a ring's older samples go: IndexedDB, each stream's pieces under a name of its own, gone when it is over. */

const DATABASE = "whisperlive-pieces";
const PIECES = "pieces";
/** No session is as long: what is older was left by a page that crashed. */
const STALE_MS = 24 * 3600 * 1000;

/** `put`, `get` and `remove` by the number of a piece's first sample; every method rejects where the browser refuses. */
export class Spill {
  #database = null;
  #began = Date.now();
  /** Two tabs may record at the same time, from the same millisecond on. */
  #name = crypto.randomUUID();

  async put(first, samples) {
    await this.#do("readwrite", (pieces) => pieces.put(samples, this.#key(first)));
  }

  /** @returns {Promise<Float32Array | undefined>} */
  get(first) {
    return this.#do("readonly", (pieces) => pieces.get(this.#key(first)));
  }

  async remove(first) {
    await this.#do("readwrite", (pieces) => pieces.delete(this.#key(first)));
  }

  /** Forget this stream's pieces; nothing happens where none was ever put. */
  async clear() {
    if (!this.#database) return;
    const own = IDBKeyRange.bound(this.#key(0), this.#key(Infinity));
    await this.#do("readwrite", (pieces) => pieces.delete(own));
  }

  #key(first) {
    return [this.#began, this.#name, first];
  }

  async #do(mode, work) {
    this.#database ??= opened(this.#began - STALE_MS);
    return done((await this.#database).transaction(PIECES, mode), work);
  }
}

function done(transaction, work) {
  const request = work(transaction.objectStore(PIECES));
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve(request.result);
    transaction.onabort = transaction.onerror = () => reject(transaction.error);
  });
}

/** The database, without what pages left there before `since`, milliseconds since 1970. */
async function opened(since) {
  const database = await new Promise((resolve, reject) => {
    const request = indexedDB.open(DATABASE, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(PIECES);
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  await done(database.transaction(PIECES, "readwrite"), (pieces) => pieces.delete(IDBKeyRange.upperBound([since])));
  return database;
}
