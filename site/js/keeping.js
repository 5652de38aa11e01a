/**
 * Recordings kept in this browser, and nowhere else: IndexedDB, written while somebody speaks, so that a crash, a dead
 * battery or a closed tab loses at most the last seconds.
 *
 * Two stores: `recordings` (what it is, and its words) and `audio` (blocks of 16-bit samples, by recording and number).
 */

const NAME = "whisperlive-recordings";
const VERSION = 1;
const RATE = 16000;
/** Samples that go into one record: five seconds. */
const BLOCK = 5 * RATE;

/**
 * @typedef {{id: string, title: string, startedAt: number, zone: string, language: string | null,
 *   model: string | null, lostSeconds: number, unconfirmed: string, segments: object[], seconds: number,
 *   finished: boolean}} Recording
 *   finished: false for one that still runs, or that a crash cut off
 */

/** Nothing can be kept here (private window, no room left); `message` is a sentence to show. */
export class KeepingError extends Error {}

export class Keeping {
  #database;

  /** @param {IDBFactory} [factory] @throws {KeepingError} */
  static async open(factory = globalThis.indexedDB) {
    const keeping = new Keeping();
    try {
      const opening = factory.open(NAME, VERSION);
      opening.onupgradeneeded = () => {
        opening.result.createObjectStore("recordings", { keyPath: "id" });
        opening.result.createObjectStore("audio", { keyPath: ["id", "number"] });
      };
      keeping.#database = await result(opening);
    } catch (error) {
      throw new KeepingError("This browser keeps no recordings; a private window never does.", { cause: error });
    }
    // Another tab with a newer page must not wait for this one.
    keeping.#database.onversionchange = () => keeping.#database.close();
    return keeping;
  }

  /** @param {Recording} recording */
  async write(recording) {
    await this.#do(["recordings"], "readwrite", ([recordings]) => recordings.put(recording));
  }

  /** @param {string} id @param {number} number of the block, from 0 @param {Int16Array} samples */
  async writeBlock(id, number, samples) {
    await this.#do(["audio"], "readwrite", ([audio]) => audio.put({ id, number, samples }));
  }

  /** Newest first. @returns {Promise<Recording[]>} */
  async list() {
    const all = await this.#do(["recordings"], "readonly", ([recordings]) => recordings.getAll());
    return all.sort((a, b) => b.startedAt - a.startedAt);
  }

  /** @returns {Promise<Recording | undefined>} */
  read(id) {
    return this.#do(["recordings"], "readonly", ([recordings]) => recordings.get(id));
  }

  /** A recording's sound, from -1 to 1 at 16 kHz. @returns {Promise<Float32Array[]>} */
  async audio(id) {
    const range = IDBKeyRange.bound([id, 0], [id, Infinity]);
    const blocks = await this.#do(["audio"], "readonly", ([audio]) => audio.getAll(range));
    return blocks.map(({ samples }) => Float32Array.from(samples, (sample) => sample / 32768));
  }

  /** Words and sound, for good. */
  async remove(id) {
    await this.#do(["recordings", "audio"], "readwrite", ([recordings, audio]) => {
      recordings.delete(id);
      return audio.delete(IDBKeyRange.bound([id, 0], [id, Infinity]));
    });
  }

  close() {
    this.#database.close();
  }

  /** One transaction; resolves when it is on the disk. */
  async #do(stores, mode, work) {
    try {
      const transaction = this.#database.transaction(stores, mode);
      const done = new Promise((resolve, reject) => {
        transaction.oncomplete = resolve;
        transaction.onabort = () => reject(transaction.error);
      });
      const request = work(stores.map((name) => transaction.objectStore(name)));
      const [value] = await Promise.all([result(request), done]);
      return value;
    } catch (error) {
      const full = error?.name === "QuotaExceededError";
      const sentence = full ? "The browser has no room for more recordings; delete some." : "Keeping the recording failed.";
      throw new KeepingError(sentence, { cause: error });
    }
  }
}

/** Writes one conversation while it runs. Nothing here may hold up the speaking: a failure is told once, and that is all. */
export class Keeper {
  #keeping;
  #recording;
  #pending = new Int16Array(BLOCK);
  #filled = 0;
  #heard = 0;
  #blocks = 0;
  #queue = Promise.resolve();
  #onFailure;
  #failed = false;

  /** @param {Keeping} keeping @param {Recording} recording @param {(sentence: string) => void} onFailure */
  constructor(keeping, recording, onFailure) {
    this.#keeping = keeping;
    this.#recording = { ...recording, segments: [], seconds: 0, finished: false };
    this.#onFailure = onFailure;
    this.#save();
  }

  /** Captured samples, in order. @param {Float32Array} samples */
  samples(samples) {
    for (const sample of samples) {
      const clipped = Math.max(-1, Math.min(1, sample));
      this.#pending[this.#filled] = Math.round(clipped * 32767);
      this.#filled += 1;
      if (this.#filled === BLOCK) this.#flush();
    }
    this.#heard += samples.length;
    this.#recording.seconds = this.#heard / RATE;
  }

  /** Segments that became final. */
  segments(finals) {
    if (!finals.length) return;
    this.#recording.segments.push(...finals);
    this.#save();
  }

  /** What was recorded until now. @returns {Promise<Float32Array[]>} from -1 to 1 at 16 kHz */
  async sound() {
    const blocks = this.#blocks;
    const pending = Float32Array.from(this.#pending.subarray(0, this.#filled), (sample) => sample / 32768);
    await this.#queue;
    const kept = await this.#keeping.audio(this.#recording.id);
    return [...kept.slice(0, blocks), pending];
  }

  /** It is over. @param {Partial<Recording>} changes what is known now; resolves when all is kept */
  async finish(changes) {
    this.#flush();
    Object.assign(this.#recording, changes, { finished: true });
    this.#save();
    await this.#queue;
  }

  /** Nothing of it is asked for any more. */
  close() {
    this.#queue.then(() => this.#keeping.close());
  }

  #flush() {
    if (!this.#filled) return;
    const block = this.#pending.slice(0, this.#filled);
    const number = this.#blocks;
    this.#blocks += 1;
    this.#filled = 0;
    this.#later(() => this.#keeping.writeBlock(this.#recording.id, number, block));
    this.#save();
  }

  #save() {
    const now = structuredClone(this.#recording);
    this.#later(() => this.#keeping.write(now));
  }

  #later(write) {
    this.#queue = this.#queue.then(write).catch((error) => {
      if (!this.#failed) this.#onFailure(error.message);
      this.#failed = true;
    });
  }
}

function result(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
