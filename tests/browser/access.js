// What WCAG 2.2 asks and a program can measure. Each function gives a list of sentences, one for each fault.
(() => {
  const LAYERS = document.createElement('canvas').getContext('2d', {willReadFrequently: true});

  // Red, green, blue 0..255 and alpha 0..1 of any CSS colour: drawn, where it is not written as rgb().
  function channels(css) {
    const written = css.match(/^rgba?\(([^)]+)\)/);
    if (written) {
      const [r, g, b, a = 1] = written[1].split(/[\s,/]+/).map(Number);
      return [r, g, b, a];
    }
    LAYERS.clearRect(0, 0, 1, 1);
    LAYERS.fillStyle = css;
    LAYERS.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = LAYERS.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  }

  const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);

  // Relative luminance as WCAG defines it.
  function luminance(colour) {
    const [r, g, b] = colour.slice(0, 3).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  }

  const shown = e => e.checkVisibility({opacityProperty: true, visibilityProperty: true});

  // What lies under an element, layer over layer; null over a picture or a gradient.
  function ground(element) {
    const layers = [];
    let opacity = 1;
    for (let e = element; e; e = e.parentElement) {
      const style = getComputedStyle(e);
      if (style.backgroundImage !== 'none') return null;
      opacity *= Number(style.opacity);
      layers.push(channels(style.backgroundColor));
      if (layers.at(-1)[3] === 1) break;
    }
    const page = getComputedStyle(document.documentElement).colorScheme.includes('dark') ? [0, 0, 0, 1] : [255, 255, 255, 1];
    return {colour: layers.reverse().reduce((below, layer) => over(layer, below), page), opacity};
  }

  function ratio(element, under) {
    const front = channels(getComputedStyle(element).color);
    front[3] *= under.opacity;
    const [a, b] = [luminance(over(front, under.colour)), luminance(under.colour)];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  }

  function visibleTexts() {
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
    for (let node; (node = walker.nextNode());) {
      const element = node.parentElement, range = document.createRange();
      range.selectNodeContents(node);
      const box = range.getBoundingClientRect();
      const off = '[disabled], [aria-disabled=true], [aria-hidden=true], svg, script, style, noscript, label:has([disabled])';
      if (node.textContent.trim() && box.width > 2 && box.height > 2 && shown(element) && !element.closest(off))
        found.push([node.textContent.trim(), element]);
    }
    return found;
  }

  return {
    // 1.4.3: a contrast of 4.5, and 3 for large text (24 px, or 18.66 px bold). Disabled controls are free.
    pale() {
      const faults = new Set();
      for (const [text, element] of visibleTexts()) {
        const under = ground(element);
        if (!under) continue;
        const style = getComputedStyle(element), size = parseFloat(style.fontSize);
        const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
        const got = ratio(element, under);
        if (got < (large ? 3 : 4.5) - 0.01)
          faults.add(`"${text.slice(0, 40)}": ${got.toFixed(2)}, ${style.color} on rgb(${under.colour.slice(0, 3).map(Math.round)})`);
      }
      return [...faults];
    },

    // 2.5.8: 24 CSS pixels each way. Inputs inside a label have its size.
    small() {
      const free = 'input[type=file], input[type=range], input[type=checkbox], input[type=radio], label *, [aria-hidden=true] *';
      return [...document.querySelectorAll('button, select, textarea, input, [role=tab], [role=button]')]
        .filter(e => shown(e) && !e.matches(free) && e.getAttribute('aria-hidden') !== 'true')
        .map(e => [e, e.getBoundingClientRect()])
        .filter(([, box]) => box.width > 1 && box.height > 1 && (box.width < 24 || box.height < 24))
        .map(([e, box]) => `${e.tagName} "${(e.ariaLabel || e.innerText || e.className).slice(0, 40)}": ${box.width}x${box.height}`);
    },

    // 1.4.10: what makes the page scroll sideways.
    wide() {
      const limit = document.documentElement.clientWidth;
      if (document.scrollingElement.scrollWidth <= limit) return [];
      return [...document.body.querySelectorAll('*')]
        .map(e => [e, e.getBoundingClientRect().right])
        .filter(([, right]) => right > limit + 1).slice(0, 8)
        .map(([e, right]) => `${e.tagName}.${String(e.className).slice(0, 60)} ends at ${right}`);
    },

    // 2.4.7: what has the focus, whether it is on the page, and whether it shows that it has it.
    focused() {
      const e = document.activeElement;
      if (!e || e === document.body) return null;
      const around = [e, e.parentElement, e.nextElementSibling, e.closest('label')].filter(Boolean);
      const ring = around.map(n => getComputedStyle(n))
        .some(s => (s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) > 0) || s.boxShadow !== 'none');
      const what = `${e.tagName.toLowerCase()} ${e.ariaLabel || e.innerText || e.placeholder || e.name || e.type || ''}`;
      const box = e.getBoundingClientRect();
      return {what: what.trim().slice(0, 60), top: box.top + scrollY, seen: box.width > 0 && shown(e), ring};
    },
  };
})()
