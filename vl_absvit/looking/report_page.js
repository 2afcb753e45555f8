"use strict";

// Where a map is weak it covers the picture; where it is strong the picture keeps its own colours.
const THINNEST = 0.4;
const MAP_SIDE = 240; // pixels of a drawn map's longer side; the browser enlarges it smoothly
const TILE_HEIGHT = 22; // rem, at most
const UNSEEN = [128, 128, 128];
const VERDICTS = { right: "right", partly: "partly right", wrong: "wrong", unknown: "not known" };
const MARKS = { right: "✓", partly: "~", wrong: "✗", unknown: "" };

const content = JSON.parse(document.getElementById("content").textContent);
const colours = bytes(content.colours);
const shownKinds = new Set(content.show);
const near = new Set(); // cards that are, or soon will be, on the screen

// ---------------------------------------------------------------- elements

const byId = (id) => document.getElementById(id);

function element(name, className, ...children) {
  const made = document.createElement(name);
  made.className = className;
  made.append(...children); // strings become text nodes, never markup
  return made;
}

function bytes(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

function number(value, digits) {
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function verdictOf({ accuracy }) {
  if (accuracy === null) return "unknown";
  return accuracy === 100 ? "right" : accuracy === 0 ? "wrong" : "partly";
}

// ---------------------------------------------------------------- maps

/** For each pixel of an axis: the four nearest cells and their weights (Keys' cubic), or null outside [start, end). */
function taps(pixels, start, end, cells) {
  const cubic = (x) => {
    x = Math.abs(x);
    if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
    return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
  };
  return Array.from({ length: pixels }, (_, pixel) => {
    const place = (pixel + 0.5) / pixels;
    if (place < start || place >= end) return null;
    const cell = ((place - start) / (end - start)) * cells - 0.5;
    const first = Math.floor(cell) - 1;
    return [0, 1, 2, 3].map((k) => ({
      cell: Math.min(cells - 1, Math.max(0, first + k)),
      weight: cubic(cell - first - k),
    }));
  });
}

/** Draw a map over a picture of the given size, smooth between the centres of its cells. */
function drawMap(canvas, map, [width, height]) {
  const scale = MAP_SIDE / Math.max(width, height);
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  const values = bytes(map.values);
  const [rows, columns] = map.shape;
  const [x0, y0, x1, y1] = map.box;
  const across = taps(canvas.width, x0, x1, columns);
  const down = taps(canvas.height, y0, y1, rows);
  const widened = new Float32Array(rows * canvas.width);
  across.forEach((near, x) => {
    if (near === null) return;
    for (let row = 0; row < rows; row++)
      for (const { cell, weight } of near) widened[row * canvas.width + x] += weight * values[row * columns + cell];
  });
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  for (let y = 0, place = 0; y < canvas.height; y++)
    for (let x = 0; x < canvas.width; x++, place += 4) {
      image.data[place + 3] = 255;
      if (across[x] === null || down[y] === null) {
        image.data.set(UNSEEN, place);
        continue;
      }
      let heat = 0;
      for (const { cell, weight } of down[y]) heat += weight * widened[cell * canvas.width + x];
      heat = Math.min(255, Math.max(0, Math.round(heat)));
      image.data.set(colours.subarray(3 * heat, 3 * heat + 3), place);
      image.data[place + 3] = 255 - (1 - THINNEST) * heat;
    }
  context.putImageData(image, 0, 0);
}

/** A map's smallest and largest value, with as many digits as tell them apart. */
function rangeOf({ low, high }) {
  if (low === high) return `${Number(low.toPrecision(3))} everywhere`;
  const digits = Math.min(20, Math.max(0, 1 - Math.floor(Math.log10(high - low))));
  return [low, high].map((value) => Number(value.toFixed(digits))).join(" to ");
}

// ---------------------------------------------------------------- cards

/** What a card can show, in order: the picture, where people looked, the maps. */
function tilesOf(record) {
  const tiles = [{ title: "picture", kind: null, map: null }];
  if (record.human) tiles.push({ title: content.human, kind: null, map: record.human });
  for (const { name, title } of content.kinds)
    if (name in record.maps) tiles.push({ title, kind: name, map: record.maps[name] });
  return tiles;
}

function makeTile(record, tile) {
  const [width, height] = record.size;
  const frame = element("div", "frame");
  frame.style.aspectRatio = `${width} / ${height}`;
  frame.style.width = `min(100%, ${(TILE_HEIGHT * width) / height}rem)`;
  const caption = element("figcaption", "", element("b", "", tile.title));
  if (tile.map) caption.append(element("span", "range", rangeOf(tile.map)));
  return { ...tile, frame, figure: element("figure", "tile", frame, caption) };
}

/** What was said about a question, by the model and by people. */
function answerLines(record, verdict) {
  const predicted = element("b", `answer ${verdict}`, record.prediction || "(nothing)");
  const share = element("span", "confidence", `${number(100 * record.confidence, 0)} % sure`);
  const model = element("p", "said", element("span", "who", "model"), predicted, share);
  if (verdict !== "unknown") {
    const mark = element("span", `verdict ${verdict}`, `${MARKS[verdict]} ${VERDICTS[verdict]}`);
    if (verdict === "partly") mark.append(`, ${number(record.accuracy, 0)} %`);
    model.append(mark);
  }
  const people = element("p", "said", element("span", "who", "people"));
  for (const [answer, times] of record.answers ?? [])
    people.append(element("span", "given", element("bdi", "", answer || "(nothing)"), element("i", "", `×${times}`)));
  if (record.answers === null) people.append(element("span", "faint", "answers not known"));
  return [model, people];
}

/** The class of a picture by the model. */
function classLines(record) {
  const predicted = element("b", "answer", record.prediction);
  const share = element("span", "confidence", `${number(100 * record.confidence, 0)} % sure`);
  return [element("p", "said", element("span", "who", "model"), predicted, share)];
}

/** Whether the model finds that a caption matches its picture. */
function matchLines(record) {
  const match = element("b", "answer", `match ${number(100 * record.match, 1)} %`);
  const score = element("span", "confidence", `ranking score ${number(record.score, 2)}`);
  return [element("p", "said", element("span", "who", "model"), match, score)];
}

function makeCard(record, position) {
  const verdict = verdictOf(record);
  const heading = element("h2", "", record.text || `(no ${record.about})`);
  heading.dir = "auto";
  const about = [`${record.about} ${record.id}`];
  if (record.image !== null) about.push(`image ${record.image}`);
  if (record.type !== null) about.push(record.type);

  const lines = { caption: matchLines, picture: classLines, question: answerLines };
  const said = lines[record.about](record, verdict);
  if (record.agreement !== null)
    said.at(-1).append(element("span", "agreement", `agreement ${number(record.agreement, 2)}`));
  const tiles = tilesOf(record).map((tile) => makeTile(record, tile));
  const row = element("div", "tiles", ...tiles.map((tile) => tile.figure));
  const card = element("article", "card", element("p", "about", about.join(" · ")), heading, ...said, row);
  return { record, verdict, position, card, tiles, words: record.text.toLowerCase() };
}

const isShown = (tile) => tile.kind === null || shownKinds.has(tile.kind);

/** Put pictures and maps into the frames of a card that comes near the screen. */
function fill({ record, tiles }) {
  for (const tile of tiles) {
    if (!isShown(tile) || tile.frame.childElementCount) continue;
    const picture = element("img", "");
    picture.src = content.pictures[record.picture];
    picture.alt = tile.map ? "" : record.about === "picture" ? record.text : `the picture that the ${record.about} is about`;
    tile.frame.append(picture);
    if (tile.map === null) continue;
    const canvas = element("canvas", "map");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${tile.title}, from ${rangeOf(tile.map)}`);
    drawMap(canvas, tile.map, record.size);
    tile.frame.append(canvas);
  }
}

/** Take them out again once it is far away: the frames keep their places, and memory stays small. */
function clear({ tiles }) {
  for (const tile of tiles) tile.frame.replaceChildren();
}

// ---------------------------------------------------------------- the page

const cards = content.cards.map(makeCard);
const cardOf = new Map(cards.map((card) => [card.card, card]));

const byNumber = (value, direction) => (a, b) => {
  const [left, right] = [value(a.record), value(b.record)];
  if (left === null || right === null) return (left === null) - (right === null); // the unknown comes last
  return direction * (left - right);
};
const ORDERS = {
  exported: ["as exported", () => 0],
  id: ["id", (a, b) => a.record.id.localeCompare(b.record.id, "en", { numeric: true })],
  "least accurate": ["least accurate first", byNumber((record) => record.accuracy, 1), "accuracy"],
  "most accurate": ["most accurate first", byNumber((record) => record.accuracy, -1), "accuracy"],
  "worst match": ["worst match first", byNumber((record) => record.match, 1), "match"],
  "best match": ["best match first", byNumber((record) => record.match, -1), "match"],
  "least agreement": ["least agreement first", byNumber((record) => record.agreement, 1), "agreement"],
  "most agreement": ["most agreement first", byNumber((record) => record.agreement, -1), "agreement"],
};

function options(select, choices) {
  for (const [value, text] of choices) select.append(new Option(text, value));
}

function counted(key, names) {
  const times = new Map();
  for (const card of cards) times.set(key(card), (times.get(key(card)) ?? 0) + 1);
  return names.filter((name) => times.has(name)).map((name) => [name, times.get(name)]);
}

function makeHeader() {
  byId("title").textContent = content.title;
  byId("note").textContent = content.note;
  byId("note").hidden = content.note === "";
  const known = (name) => content.cards.map((record) => record[name]).filter((value) => value !== null);
  const facts = [
    [`${content.about}s`, number(cards.length, 0)],
    ["pictures", number(content.pictures.length, 0)],
  ].slice(content.about === "picture" ? 1 : 0);
  const over = (name, values) =>
    values.length < cards.length ? `${name} over ${number(values.length, 0)} ${content.about}s` : name;
  const [accuracies, matches, agreements, human] = ["accuracy", "match", "agreement", "human"].map(known);
  if (accuracies.length) facts.push([over("accuracy", accuracies), `${number(mean(accuracies), 1)} %`]);
  if (matches.length) facts.push(["mean match", `${number(100 * mean(matches), 1)} %`]);
  if (human.length) facts.push(["with human maps", number(human.length, 0)]);
  if (agreements.length) facts.push([over("mean agreement", agreements), number(mean(agreements), 2)]);
  for (const [name, value] of facts) byId("counts").append(element("div", "", element("dt", "", name), element("dd", "", value)));
}

function makeControls() {
  for (const { name, title } of content.kinds) {
    const box = element("input", "");
    box.type = "checkbox";
    box.value = name;
    box.checked = shownKinds.has(name);
    byId("kinds").append(element("label", "", box, title));
  }
  const typeOf = (card) => JSON.stringify(card.record.type);
  const types = [...new Set(cards.map(typeOf))].sort();
  const nameOf = (type) => JSON.parse(type) ?? "not known";
  options(byId("type"), [["", "all"], ...counted(typeOf, types).map(([type, n]) => [type, `${nameOf(type)} (${n})`])]);
  const verdicts = counted((card) => card.verdict, Object.keys(VERDICTS));
  options(byId("verdict"), [["", "all"], ...verdicts.map(([name, n]) => [name, `${VERDICTS[name]} (${n})`])]);
  const knows = (name) => content.cards.some((record) => record[name] !== null);
  const possible = Object.entries(ORDERS).filter(([, [, , needed]]) => needed === undefined || knows(needed));
  for (const name of ["type", "verdict"]) byId(name).parentElement.hidden = content.about !== "question";
  options(byId("order"), possible.map(([value, [text]]) => [value, text]));

  const scale = byId("scale").getContext("2d");
  for (let step = 0; step < 256; step++) {
    scale.fillStyle = `rgb(${colours.subarray(3 * step, 3 * step + 3).join(",")})`;
    scale.fillRect(step, 0, 1, 1);
  }
  const seesAll = (map) => map.box[0] <= 0 && map.box[1] <= 0 && map.box[2] >= 1 && map.box[3] >= 1;
  byId("unseen").hidden = content.cards.every((record) => Object.values(record.maps).every(seesAll));
}

function showStrength() {
  const strength = byId("strength").value;
  document.documentElement.style.setProperty("--strength", strength / 100);
  byId("strength-shown").textContent = `${strength} %`;
}

function showKinds() {
  shownKinds.clear();
  for (const box of byId("kinds").querySelectorAll("input:checked")) shownKinds.add(box.value);
  for (const { tiles } of cards) for (const tile of tiles) tile.figure.hidden = !isShown(tile);
  near.forEach(fill);
}

function showCards() {
  const words = byId("search").value.trim().toLowerCase();
  const [type, verdict] = [byId("type").value, byId("verdict").value];
  let shown = 0;
  for (const card of cards) {
    const isRight =
      card.words.includes(words) &&
      (type === "" || JSON.stringify(card.record.type) === type) &&
      (verdict === "" || card.verdict === verdict);
    card.card.hidden = !isRight;
    shown += isRight;
  }
  byId("shown").textContent = `${number(shown, 0)} of ${number(cards.length, 0)} ${content.about}s`;
  byId("empty").hidden = shown > 0;
}

function orderCards() {
  const [, compare] = ORDERS[byId("order").value];
  const ordered = [...cards].sort((a, b) => compare(a, b) || a.position - b.position);
  byId("cards").append(...ordered.map(({ card }) => card));
}

const watcher = new IntersectionObserver(
  (changes) => {
    for (const { target, isIntersecting } of changes) {
      const card = cardOf.get(target);
      (isIntersecting ? fill : clear)(card);
      isIntersecting ? near.add(card) : near.delete(card);
    }
  },
  { rootMargin: "800px 0px" },
);

makeHeader();
makeControls();
showStrength();
showKinds();
showCards();
orderCards();
for (const { card } of cards) watcher.observe(card);
byId("controls").addEventListener("submit", (event) => event.preventDefault());
byId("strength").addEventListener("input", showStrength);
byId("kinds").addEventListener("change", showKinds);
byId("search").addEventListener("input", showCards);
byId("type").addEventListener("change", showCards);
byId("verdict").addEventListener("change", showCards);
byId("order").addEventListener("change", orderCards);
