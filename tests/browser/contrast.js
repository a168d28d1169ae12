// Every text that can be seen and has less contrast with what is behind it than WCAG AA asks for: [text, ratio, colours].
const paper = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const known = new Map();

// red, green, blue (0 to 255) and alpha (0 to 1) of any colour that CSS can say
function parts(text) {
  if (!known.has(text)) {
    paper.clearRect(0, 0, 1, 1);
    paper.fillStyle = text;
    paper.fillRect(0, 0, 1, 1);
    const [red, green, blue, alpha] = paper.getImageData(0, 0, 1, 1).data;
    known.set(text, [red, green, blue, alpha / 255]);
  }
  return known.get(text);
}

function over([red, green, blue, alpha], below) {
  return [red, green, blue].map((value, n) => value * alpha + below[n] * (1 - alpha));
}

function backgroundOf(element) {
  const layers = [];
  for (let one = element; one; one = one.parentElement) layers.push(parts(getComputedStyle(one).backgroundColor));
  const canvas = matchMedia("(prefers-color-scheme: dark)").matches && getComputedStyle(document.documentElement).colorScheme.includes("dark") ? [18, 18, 18] : [255, 255, 255];
  return layers.reverse().reduce((below, layer) => over(layer, below), canvas);
}

function luminance(colour) {
  const [red, green, blue] = colour.map((value) => value / 255).map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function opacityOf(element) {
  let opacity = 1;
  for (let one = element; one; one = one.parentElement) opacity *= Number(getComputedStyle(one).opacity);
  return opacity;
}

const found = [];
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (texts.nextNode()) {
  const element = texts.currentNode.parentElement;
  const box = element.getBoundingClientRect();
  const hidden = !element.checkVisibility({ visibilityProperty: true, opacityProperty: true }) || box.width <= 1 || box.height <= 1;
  if (hidden || !texts.currentNode.data.trim() || element.closest("script, style, noscript, title")) continue;
  const style = getComputedStyle(element);
  const background = backgroundOf(element);
  const [red, green, blue, alpha] = parts(element instanceof SVGElement ? style.fill : style.color);
  const colour = over([red, green, blue, alpha * opacityOf(element)], background);
  const [dark, light] = [luminance(colour), luminance(background)].sort((a, b) => a - b);
  const ratio = (light + 0.05) / (dark + 0.05);
  const size = parseFloat(style.fontSize);
  const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
  const text = texts.currentNode.data.trim().slice(0, 60);
  if (ratio < (isLarge ? 3 : 4.5)) found.push([text, ratio, `${colour.map(Math.round)} on ${background.map(Math.round)}, ${size}px, <${element.tagName.toLowerCase()} class="${element.getAttribute("class") ?? ""}">`]);
}
return found;
