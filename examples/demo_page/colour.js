/**
 * An accent that can be read, whichever colour the user chose: it keeps its hue and is made darker on light surfaces, and
 * lighter on dark ones, as far as contrast asks for (WCAG 2.2, criteria 1.4.3 and 1.4.11).
 */

// The surfaces that leave the least contrast in each theme (demo.css).
const LIGHT = [238, 241, 245];
const DARK = [32, 38, 47];
const TEXT = 4.5;
const SHAPE = 3;

/** @typedef {number[]} Colour Red, green and blue, 0 to 255. */

/** @param {Colour} colour */
function luminance(colour) {
  const [red, green, blue] = colour.map((part) => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

/**
 * @param {Colour} one
 * @param {Colour} other
 */
function contrast(one, other) {
  const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}

/**
 * @param {Colour} colour
 * @param {Colour} surface
 * @param {number} least
 */
function readable(colour, surface, least) {
  const end = luminance(surface) > 0.4 ? 0 : 255;
  for (let share = 0; share < 1; share += 0.04) {
    const mixed = colour.map((part) => Math.round(part + (end - part) * share));
    if (contrast(mixed, surface) >= least) return mixed;
  }
  return [end, end, end];
}

const css = (/** @type {Colour} */ colour) => `rgb(${colour.join(" ")})`;

/**
 * Give an element its accent, as custom properties: `--accent-text`, `--fill` and `--on-fill`.
 *
 * @param {HTMLElement} element
 * @param {unknown} accent `#rrggbb`; anything else leaves the page's own.
 */
export function applyAccent(element, accent) {
  if (typeof accent != "string" || !/^#[0-9a-f]{6}$/i.test(accent)) return;
  const colour = [1, 3, 5].map((at) => parseInt(accent.slice(at, at + 2), 16));
  const fills = [LIGHT, DARK].map((surface) => readable(colour, surface, SHAPE));
  const texts = [LIGHT, DARK].map((surface) => css(readable(colour, surface, TEXT)));
  const onFills = fills.map((fill) => (contrast(fill, [255, 255, 255]) >= TEXT ? "#fff" : "#000"));
  /** @type {[string, string[]][]} */
  const pairs = [["--fill", fills.map(css)], ["--accent-text", texts], ["--on-fill", onFills]];
  for (const [name, pair] of pairs) element.style.setProperty(name, `light-dark(${pair.join(", ")})`);
}
