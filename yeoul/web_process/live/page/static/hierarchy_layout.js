// Where the boxes of the hierarchy stand, and the lines between them. Pure: numbers from a topology and a width.

const PAD = 10;
const GAP = 8;
const HEAD_OF_PROCESS = 78;
const HEAD_OF_PART = 26;
const LEAF = { width: 205, height: 40 };
const BETWEEN = 210; // columns of processes, where their links have room
const HALF_OF_WORDS = 72; // of a link, in width
const ROW = 30; // of a link's words
const NARROW = 1120;
const WORKER = 300;
const GUTTER = 34; // beside workers that stand below each other

// Boxes of a process: {key, kind, name, doing, state, share, children}; threads and tasks stand in their part.
export function boxesOf(process) {
  const root = { key: process.name, kind: "process", children: [] };
  const parts = new Map();
  for (const part of process.parts) {
    parts.set(part.name, { key: `${process.name}/${part.name}`, kind: "part", name: part.name, children: [] });
  }
  for (const part of process.parts) (parts.get(part.inside) ?? root).children.push(parts.get(part.name));
  const leaves = new Map();
  const add = (kind, entry) => {
    const key = `${process.name}/${kind} ${entry.name}`;
    const known = leaves.get(key);
    if (known) {
      known.count += entry.count ?? 1;
      known.share += entry.cpu_share ?? 0;
      if (entry.state === "running") Object.assign(known, { state: entry.state, doing: entry.doing });
      return;
    }
    const leaf = { key, kind, name: entry.name, doing: entry.doing, state: entry.state, share: entry.cpu_share ?? 0, count: entry.count ?? 1 };
    leaves.set(key, leaf);
    const { children } = parts.get(entry.part) ?? root;
    const place = children.findIndex((child) => child.kind === "part");
    children.splice(place < 0 || entry.is_main !== true ? children.length : place, 0, leaf);
  };
  process.threads.filter((thread) => !thread.is_library).forEach((thread) => add("thread", thread));
  process.tasks.filter((task) => task.part !== null || task.doing).forEach((task) => add("task", task));
  const libraries = process.threads.filter((thread) => thread.is_library);
  if (libraries.length) root.children.push(folded(process, "libraries", "threads of libraries", libraries));
  const others = process.tasks.filter((task) => task.part === null && !task.doing);
  if (others.length) root.children.push(folded(process, "others", "other tasks", others));
  return root;
}

function folded(process, kind, name, entries) {
  return {
    key: `${process.name}/${kind}`, kind, name,
    count: entries.reduce((sum, entry) => sum + (entry.count ?? 1), 0),
    doing: [...new Set(entries.map((entry) => entry.name))].join(", "),
    state: entries.some((entry) => entry.state === "running") ? "running" : "waiting",
    share: entries.reduce((sum, entry) => sum + (entry.cpu_share ?? 0), 0),
  };
}

// Gives a box and all in it their places; returns the height.
function place(box, x, y, width) {
  const head = box.kind === "process" ? HEAD_OF_PROCESS : HEAD_OF_PART;
  Object.assign(box, { x, y, width });
  const inner = width - 2 * PAD;
  const columns = Math.max(1, Math.floor((inner + GAP) / (LEAF.width + GAP)));
  const leafWidth = (inner - (columns - 1) * GAP) / columns;
  let top = y + head;
  let column = 0;
  for (const child of box.children) {
    if (child.children) {
      if (column > 0) top += LEAF.height + GAP;
      column = 0;
      top += place(child, x + PAD, top, inner) + GAP + 4;
    } else {
      Object.assign(child, { x: x + PAD + column * (leafWidth + GAP), y: top, width: leafWidth, height: LEAF.height });
      column += 1;
      if (column === columns) {
        column = 0;
        top += LEAF.height + GAP;
      }
    }
  }
  if (column > 0) top += LEAF.height + GAP;
  box.height = Math.max(head, top - y - GAP + PAD);
  return box.height;
}

// {width, height, processes, links}: processes are boxes, links have a path, and the place of their words where they have any.
export function layOut(topology, width) {
  const processes = topology.processes.map(boxesOf);
  const tiers = [[], [], []];
  for (const box of processes) tiers[box.key === "Web" ? 0 : box.key === "EngineCore" ? 1 : 2].push(box);
  const height = width < NARROW ? stack(tiers, width, topology.links) : sideBySide(tiers, width);
  const boxes = new Map();
  const note = (box) => {
    boxes.set(box.key, box);
    box.children?.forEach(note);
  };
  processes.forEach(note);
  const find = (end) => boxes.get(end) ?? boxes.get(end.replace("/", "/thread ")) ?? boxes.get(end.split("/")[0]);
  const links = topology.links.map((link) => ({ link, source: find(link.source), target: find(link.target) }))
    .filter(({ source, target }) => source && target);
  if (width < NARROW) connectDown(links, tiers);
  else connectAcross(links, processes);
  return { width, height, processes, links };
}

function sideBySide([web, engine, workers], width) {
  const columns = [web, engine, workers].filter((tier) => tier.length);
  const room = (width - BETWEEN * (columns.length - 1)) / columns.length;
  let height = 0;
  columns.forEach((tier, index) => {
    let y = 1;
    for (const box of tier) y += place(box, 1 + index * (room + BETWEEN), y, room - 2) + 24;
    height = Math.max(height, y - 22);
  });
  // A column that is lower stands in the middle of its neighbours.
  for (const tier of columns) {
    const end = Math.max(...tier.map((box) => box.y + box.height)) + 1;
    for (const box of tier) move(box, (height - end) / 2);
  }
  return height;
}

function move(box, down) {
  box.y += down;
  box.children?.forEach((child) => move(child, down));
}

function stack(tiers, width, links) {
  let y = 1;
  tiers.filter((tier) => tier.length).forEach((tier, index, shown) => {
    const columns = Math.max(1, Math.min(tier.length, Math.floor((width + GAP) / WORKER)));
    const gutter = tier.length > columns ? GUTTER : 0;
    const room = (width - gutter - (columns - 1) * 16) / columns;
    for (let first = 0; first < tier.length; first += columns) {
      const row = tier.slice(first, first + columns);
      y += Math.max(...row.map((box, column) => place(box, 1 + gutter + column * (room + 16), y, room - 2))) + 16;
    }
    if (index < shown.length - 1) y += ROW * wordsBetween(links, tier, shown[index + 1]).length + 14;
  });
  return y - 14;
}

// The links with words between two tiers.
function wordsBetween(links, upper, lower) {
  const isIn = (tier, end) => tier.some((box) => end.split("/")[0] === box.key);
  return links.filter(({ source, target, kind }) => kind !== "spawn"
    && ((isIn(upper, source) && isIn(lower, target)) || (isIn(lower, source) && isIn(upper, target))));
}

function processOf(box) {
  return box.key.split("/")[0];
}

function connectDown(links, tiers) {
  const bottom = tiers.map((tier) => Math.max(0, ...tier.map((box) => box.y + box.height)));
  const tierOf = (box) => tiers.findIndex((tier) => tier.some((other) => other.key === processOf(box)));
  const boxOf = (box) => tiers.flat().find((other) => other.key === processOf(box));
  const rows = [0, 0, 0];
  for (const entry of links) {
    const { link, source, target } = entry;
    if (connectInside(entry)) continue;
    const upper = Math.min(tierOf(source), tierOf(target));
    const isDown = tierOf(source) === upper;
    const [above, below] = isDown ? [boxOf(source), boxOf(target)] : [boxOf(target), boxOf(source)];
    const row = link.kind === "spawn" ? 0 : rows[upper]++;
    const from = bottom[upper];
    const isFirstRow = below.y === Math.min(...tiers[upper + 1].map((box) => box.y));
    if (!isFirstRow) {
      entry.path = aroundOthers(below, above, link, row, isDown);
      if (link.kind !== "spawn") entry.words = { x: below.x + 96, y: from + 16 + row * ROW, anchor: "start" };
      continue;
    }
    const x = link.kind === "spawn" ? below.x + below.width - 14 : below.x + 16 + (row % 6) * 12;
    const upperX = Math.min(x, above.x + above.width - 14);
    const line = [[upperX, above.y + above.height], [upperX, from + 5], [x, from + 5], [x, below.y]];
    entry.path = `M${(isDown ? line : line.reverse()).map((point) => point.join(" ")).join("L")}`;
    if (link.kind !== "spawn") entry.words = { x: below.x + 96, y: from + 16 + row * ROW, anchor: "start" };
  }
}

// Through the gutter, to one that stands below others.
function aroundOthers(below, above, link, row, isDown) {
  const x = link.kind === "spawn" ? 3 : 10 + (row % 2) * 10;
  const y = below.y + 22 + (link.kind === "spawn" ? -8 : (row % 2) * 14);
  const line = [[x, above.y + above.height], [x, y], [below.x, y]];
  return `M${(isDown ? line : line.reverse()).map((point) => point.join(" ")).join("L")}`;
}

// Of parts of one process, the one above the other.
function connectInside(entry) {
  const { source, target } = entry;
  if (processOf(source) !== processOf(target)) return false;
  const [upper, lower] = source.y < target.y ? [source, target] : [target, source];
  const x = Math.max(upper.x, lower.x) + 18;
  const ends = [`${x} ${upper.y + upper.height}`, `${x} ${lower.y}`];
  entry.path = `M${(upper === source ? ends : ends.reverse()).join("L")}`;
  return true;
}

function connectAcross(links, processes) {
  const edgeOf = (box) => processes.find((process) => process.key === processOf(box));
  const labels = new Map(); // gap -> what stands in it
  for (const entry of links) {
    const { link, source, target } = entry;
    if (connectInside(entry)) continue;
    const isRight = source.x < target.x;
    const [left, right] = isRight ? [source, target] : [target, source];
    const shift = link.kind === "spawn" ? 0 : isRight ? -5 : 5;
    const headOf = (box) => (box.kind === "process" ? box.y + 30 : box.y + Math.min(box.height, 40) / 2);
    entry.from = { x: edgeOf(left).x + edgeOf(left).width, y: headOf(left) + shift };
    entry.to = { x: edgeOf(right).x, y: headOf(right) + shift };
    entry.isRight = isRight;
    if (link.kind === "spawn") continue;
    const gap = `${Math.round(entry.from.x)}`;
    entry.wish = (entry.from.y + entry.to.y) / 2;
    labels.set(gap, [...(labels.get(gap) ?? []), entry]);
  }
  for (const entries of labels.values()) spread(entries);
  for (const entry of links) {
    if (!entry.from) continue;
    const { from, to, isRight } = entry;
    // To its words, and on from behind them.
    const pieces = entry.words
      ? [[from, { x: entry.words.x - HALF_OF_WORDS, y: entry.words.y + 2 }], [{ x: entry.words.x + HALF_OF_WORDS, y: entry.words.y + 2 }, to]]
      : [[from, to]];
    entry.path = isRight ? pieces.map(([start, end]) => curve(start, end)).join("")
      : pieces.toReversed().map(([start, end]) => curve(end, start)).join("");
  }
}

function curve(start, end) {
  const middle = ((start.x + end.x) / 2).toFixed(1);
  const y = [start.y, end.y].map((value) => value.toFixed(1));
  return `M${start.x.toFixed(1)} ${y[0]}C${middle} ${y[0]} ${middle} ${y[1]} ${end.x.toFixed(1)} ${y[1]}`;
}

// Words of links in one gap: as near as can be to where they want to be, and none on another.
function spread(entries) {
  entries.sort((one, other) => one.wish - other.wish);
  const height = 42;
  const middle = entries.reduce((sum, entry) => sum + entry.wish, 0) / entries.length;
  const top = Math.max(24, middle - (entries.length * height) / 2 + height / 2);
  entries.forEach((entry, index) => {
    entry.words = { x: (entry.from.x + entry.to.x) / 2, y: top + index * height, anchor: "middle" };
  });
}
