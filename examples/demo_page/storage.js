/**
 * A device's own part of what the browser has one of: storage, locks and channels, under the device's name. Two devices
 * on one page are strangers to each other; two windows that show the same device are its tabs.
 */

/** @param {string} device */
export function createStorage(device) {
  const prefix = `${device}:`;
  try {
    // A page in a sandbox may not even ask.
    localStorage.getItem(prefix);
  } catch {
    return null;
  }
  return {
    /** @param {string} key */
    getItem: (key) => localStorage.getItem(prefix + key),
    /**
     * @param {string} key
     * @param {string} value
     */
    setItem: (key, value) => localStorage.setItem(prefix + key, value),
    /** @param {string} key */
    removeItem: (key) => localStorage.removeItem(prefix + key),
    keys: () =>
      Object.keys(localStorage)
        .filter((key) => key.startsWith(prefix))
        .map((key) => key.slice(prefix.length)),
  };
}

/** @param {string} device */
export function createLocks(device) {
  const { locks } = navigator; // only in secure contexts
  return locks
    ? {
        /**
         * @param {string} name
         * @param {any} options
         * @param {() => Promise<void>} work
         */
        request: (name, options, work) => locks.request(`${device}:${name}`, options, work),
      }
    : null;
}

/** @param {string} device */
export function createChannels(device) {
  return class extends BroadcastChannel {
    /** @param {string} name */
    constructor(name) {
      super(`${device}:${name}`);
    }
  };
}
