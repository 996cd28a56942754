// Where the boxes of the hierarchy stand, and the lines between them. Pure: numbers from a topology and a width.

const PAD = 10;
const GAP = 8;
const HEAD_OF_PROCESS = 78;
const HEAD_OF_PART = 26;
const LEAF = { width: 205, height: 40 };
const BETWEEN = 214; // columns of processes, where their links have room; more where the window is wide
const MOST_BETWEEN = 340;
const HALF_OF_WORDS = 72; // of a link, in width
const WORDS_HEIGHT = 42;
const BESIDE_WORDS = 14; // from a link's words to the box on their right
const BELOW_EACH_OTHER = 24; // processes of one column
const EXCHANGE = 58; // the same where they have a link with each other
const PORT = 13; // between links that leave one box
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

// Who speaks with whom stands beside each other.
const TIERS = ["Web", "Keeper", "EngineCore", "Worker_"];
export const levelOf = (name) => TIERS.findIndex((begin) => name.startsWith(begin));

// Ranks' sums, and what goes from a pipeline stage to the next.
const isBetweenWorkers = (link) => link.kind === "exchange" || link.kind === "stage";

// {width, height, processes, links}: processes are boxes, links have a path, and the place of their words where they have any.
export function layOut(topology, width) {
  const processes = topology.processes.map(boxesOf);
  const tiers = TIERS.map((_, place) => processes.filter((box) => levelOf(box.key) === place)).filter((tier) => tier.length);
  const hasExchange = topology.links.some(isBetweenWorkers);
  const height = width < NARROW ? stack(tiers, width, topology.links, hasExchange) : sideBySide(tiers, width, hasExchange);
  const boxes = new Map();
  const note = (box) => {
    boxes.set(box.key, box);
    box.children?.forEach(note);
  };
  processes.forEach(note);
  const find = (end) => boxes.get(end) ?? boxes.get(end.replace("/", "/thread ")) ?? boxes.get(end.split("/")[0]);
  const links = topology.links.map((link) => ({ link, source: find(link.source), target: find(link.target) }))
    .filter(({ source, target }) => source && target);
  links.filter(({ link }) => isBetweenWorkers(link)).forEach((entry) => connectRanks(entry, processes));
  const others = links.filter(({ link }) => !isBetweenWorkers(link));
  if (width < NARROW) connectDown(others, tiers);
  else connectAcross(others, processes);
  return { width, height, processes, links };
}

function sideBySide(columns, width, hasExchange) {
  const between = Math.min(MOST_BETWEEN, Math.max(BETWEEN, width * 0.14));
  const room = (width - between * (columns.length - 1)) / columns.length;
  let height = 0;
  columns.forEach((tier, index) => {
    const gap = tier === columns.at(-1) && hasExchange ? EXCHANGE : BELOW_EACH_OTHER;
    let y = 1;
    for (const box of tier) y += place(box, 1 + index * (room + between), y, room - 2) + gap;
    height = Math.max(height, y - gap + 2);
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

function stack(tiers, width, links, hasExchange) {
  let y = 1;
  tiers.forEach((tier, index) => {
    const columns = Math.max(1, Math.min(tier.length, Math.floor((width + GAP) / WORKER)));
    const gutter = tier.length > columns ? GUTTER : 0;
    const room = (width - gutter - (columns - 1) * 16) / columns;
    for (let first = 0; first < tier.length; first += columns) {
      const row = tier.slice(first, first + columns);
      const gap = hasExchange && first + columns < tier.length ? EXCHANGE : 16;
      y += Math.max(...row.map((box, column) => place(box, 1 + gutter + column * (room + 16), y, room - 2))) + gap;
    }
    if (index < tiers.length - 1) y += ROW * wordsBetween(links, tier, tiers[index + 1]).length + 14;
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
  const rows = tiers.map(() => 0);
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

// Between ranks, which stand below or beside each other: of two, one goes there and one back.
function connectRanks(entry, processes) {
  const boxOf = (box) => processes.find((process) => process.key === processOf(box));
  const [source, target] = [boxOf(entry.source), boxOf(entry.target)];
  const isOn = source.x < target.x || source.y < target.y;
  const [first, last] = isOn ? [source, target] : [target, source];
  let line;
  if (first.y === last.y) {
    const y = first.y + 34 + (isOn ? 0 : 12);
    line = [[first.x + first.width, y], [last.x, y]];
  } else {
    const room = Math.min(190, first.width / 2 - 12);
    const x = Math.max(first.x, last.x) + 18 + (isOn ? 0 : room);
    const isNext = last.y - first.y - first.height < 2 * EXCHANGE;
    line = isNext ? [[x, first.y + first.height], [x, last.y]] : aside(first, last);
    if (isNext) entry.words = { x: x + 12, y: first.y + first.height + EXCHANGE / 2 - 3, anchor: "start", room: room - 20 };
  }
  entry.path = `M${(isOn ? line : line.reverse()).map((point) => point.join(" ")).join("L")}`;
}

// From the last rank back to the first one, past those between them.
function aside(first, last) {
  const x = first.x + first.width;
  return [[x, first.y + 20], [x + 1, first.y + 20], [x + 1, last.y + 20], [x, last.y + 20]];
}

function connectAcross(links, processes) {
  const edgeOf = (box) => processes.find((process) => process.key === processOf(box));
  const across = links.filter((entry) => !connectInside(entry));
  for (const entry of across) {
    entry.isRight = entry.source.x < entry.target.x;
    const [left, right] = entry.isRight ? [entry.source, entry.target] : [entry.target, entry.source];
    Object.assign(entry, { left, right, from: { x: edgeOf(left).x + edgeOf(left).width }, to: { x: edgeOf(right).x } });
  }
  const starts = across.filter(({ link }) => link.kind === "spawn");
  for (const entry of starts) entry.to.y = entry.right.y + 30;
  const flows = across.filter(({ link }) => link.kind !== "spawn");
  // Where they end on the right, each has its own place, as far apart as its words are high.
  for (const entries of grouped(flows, ({ right }) => right.key)) {
    const { right } = entries[0];
    const apart = Math.min(WORDS_HEIGHT, Math.max(8, (right.height - 24) / entries.length));
    entries.sort((one, other) => other.isRight - one.isRight);
    entries.forEach((entry, index) => { entry.to.y = right.y + Math.min(20, right.height / 2) + index * apart; });
  }
  for (const entries of grouped(flows, ({ to }) => to.x)) spread(entries);
  // On the left they leave in the order in which they end.
  for (const entries of grouped(across, ({ left }) => left.key)) {
    const { left } = entries[0];
    entries.sort((one, other) => one.to.y - other.to.y);
    const apart = Math.min(PORT, (left.height - 12) / entries.length);
    const first = left.y + Math.min(left.height / 2, 26) - ((entries.length - 1) * apart) / 2;
    entries.forEach((entry, index) => { entry.from.y = Math.max(left.y + 6, first) + index * apart; });
  }
  for (const entry of across) {
    const { from, to, isRight, words } = entry;
    // To its words, and on from behind them.
    const pieces = words
      ? [[from, { x: words.x - HALF_OF_WORDS, y: words.y + 2 }], [{ x: words.x + HALF_OF_WORDS, y: words.y + 2 }, to]] : [[from, to]];
    entry.path = isRight ? pieces.map(([start, end]) => curve(start, end)).join("")
      : pieces.toReversed().map(([start, end]) => curve(end, start)).join("");
  }
}

function grouped(entries, keyOf) {
  const groups = new Map();
  for (const entry of entries) groups.set(keyOf(entry), [...(groups.get(keyOf(entry)) ?? []), entry]);
  return [...groups.values()];
}

function curve(start, end) {
  const middle = ((start.x + end.x) / 2).toFixed(1);
  const y = [start.y, end.y].map((value) => value.toFixed(1));
  return `M${start.x.toFixed(1)} ${y[0]}C${middle} ${y[0]} ${middle} ${y[1]} ${end.x.toFixed(1)} ${y[1]}`;
}

// Words of links that end in one column: beside their ends, and none on another.
function spread(entries) {
  entries.sort((one, other) => one.to.y - other.to.y);
  let y = 0;
  for (const entry of entries) {
    y = Math.max(y, entry.to.y - 2);
    entry.words = { x: entry.to.x - BESIDE_WORDS - HALF_OF_WORDS, y, anchor: "middle" };
    y += WORDS_HEIGHT;
  }
}
