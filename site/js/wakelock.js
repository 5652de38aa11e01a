/** Keeps the screen on while somebody is recorded: a phone that sleeps stops recording. */

/**
 * Hold the lock until `release` is called. The system takes it away when the page is hidden, and gives it again.
 * Where there is none, or the battery is low, nothing happens: a lock is a courtesy.
 * @param {{locks?: WakeLock, document?: Document}} [parts]
 * @returns {{release: () => void}}
 */
export function keepAwake({ locks = globalThis.navigator?.wakeLock, document: page = document } = {}) {
  let held = null;
  let wanted = true;
  const ask = async () => {
    if (!wanted || !locks || page.visibilityState !== "visible") return;
    try {
      const lock = await locks.request("screen");
      if (wanted) held = lock;
      else lock.release();
    } catch (error) {
      if (error.name !== "NotAllowedError") throw error;
    }
  };
  page.addEventListener("visibilitychange", ask);
  ask();
  return {
    release() {
      wanted = false;
      page.removeEventListener("visibilitychange", ask);
      held?.release();
      held = null;
    },
  };
}
