// What chart.py and plot.py draw, again for whatever machine and need are chosen on the page.
const WIDTH = 760, HEIGHT = 394, LEFT = 84, RIGHT = 36, TOP = 80, BOTTOM = 62, NAMED = 255, LINE = 17;
const MOST_GUESSES = 24, MOST_LINES = 10, SMALLEST_KL = 1e-6, CONTEXTS = [9, 10, 11, 12, 13, 14, 15].map((power) => 2 ** power);

const drawn = (tag, attributes, text = "") => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== "") made.setAttribute(name, value);
  made.textContent = text;
  return made;
};
const written = (x, y, text, end, kind = "") => drawn("text", { class: kind, x, y, "text-anchor": end }, text);
const pathOf = (places) => (places.length ? `M${places.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}` : "");

const linear = (most, show) => {
  const unit = 10 ** Math.floor(Math.log10(most / 5));
  const step = [1, 2, 2.5, 5, 10].map((factor) => unit * factor).find((size) => size >= most / 5);
  const ticks = Array.from({ length: Math.floor(most / step) + 1 }, (_, number) => number * step);
  return { share: (value) => value / most, ticks, show };
};
const decades = (values, base, show) => {
  const log = (value) => Math.log(value) / Math.log(base);
  const low = Math.floor(log(Math.min(...values)) + 1e-9);
  const high = Math.max(low + 1, Math.ceil(log(Math.max(...values)) - 1e-9));
  const step = Math.max(1, Math.ceil((high - low) / 8));
  const ticks = Array.from({ length: Math.floor((high - low) / step) + 1 }, (_, number) => base ** (low + number * step));
  return { share: (value) => (log(value) - low) / (high - low), ticks, show };
};
const klShown = (value) => (value > 9e-4 ? String(+value.toPrecision(3)) : value.toExponential(0));
const sizeShown = (value) => (value ? sizeOf(value) : "0");
const plainly = (value) => (value >= 10 ? thousands(Math.round(value)) : String(+value.toPrecision(3)));

// The title, the subtitle and the label are the ones that are there.
const framed = (svg, across, up, right = RIGHT) => {
  const kept = [...svg.querySelectorAll(":scope > title, .ground, .title, .label")];
  const [x, y] = [(value) => LEFT + (WIDTH - right - LEFT) * Math.min(1.02, Math.max(-0.02, across.share(value))),
    (value) => HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * Math.min(1.02, Math.max(-0.02, up.share(value)))];
  svg.replaceChildren(...kept);
  up.ticks.forEach((tick, at) => svg.append(
    drawn("path", { class: at ? "grid" : "axis", d: `M${LEFT} ${y(tick)}H${WIDTH - right}` }),
    written(LEFT - 10, y(tick) + 5, up.show(tick), "end"),
  ));
  for (const tick of across.ticks) {
    svg.append(drawn("path", { class: "grid", d: `M${x(tick)} ${TOP}V${HEIGHT - BOTTOM}` }),
      written(x(tick), HEIGHT - BOTTOM + 22, across.show(tick), "middle"));
  }
  return { x, y };
};

// Each name where it covers no mark and no other name, or nowhere: names of what is ruled out come last.
const NEAR = [[14, 5, "start"], [-14, 5, "end"], [0, -14, "middle"], [0, 24, "middle"],
  ...[1, -1, 2, -2, 3, -3].flatMap((at) => [[16, 5 + at * LINE, "start"], [-16, 5 + at * LINE, "end"]])];
const named = (group, taken, text, x, y) => {
  const wide = 8.8 * text.length;
  for (const [dx, dy, end] of NEAR) {
    const left = x + dx - (end === "start" ? 0 : end === "end" ? wide : wide / 2);
    const box = [left, y + dy - 12, left + wide, y + dy + 4];
    const isInside = box[0] > LEFT && box[2] < WIDTH - 4 && box[1] > TOP - 12 && box[3] < HEIGHT - BOTTOM + 6;
    if (isInside && !taken.some((other) => box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3])) {
      taken.push(box);
      if (Math.abs(dy - 5) >= LINE && dx) group.append(drawn("path", { class: "lead", d: pathOf([[x, y], [x + dx * 0.9, y + dy - 4]]) }));
      group.append(written(x + dx, y + dy, text, end, "name"));
      return;
    }
  }
};
const cutTo = (name) => {
  const short = name.replace("compressed-tensors-", "");
  return short.length <= 26 ? short : `${short.slice(0, 25)}…`;
};
const linkedTo = ({ hover, link, why }) => {
  const group = link ? drawn("a", { href: `#${link}` }) : drawn("g", {});
  group.append(drawn("title", {}, why ? `${hover}: ${why}` : hover));
  group.classList.toggle("out", Boolean(why));
  return group;
};

const ruled = (svg, at, { name, kind, x, y }, right = RIGHT) => {
  const isAcross = y !== null;
  svg.append(drawn("path", { class: kind, d: isAcross ? `M${LEFT} ${at.y(y)}H${WIDTH - right}` : `M${at.x(x)} ${TOP}V${HEIGHT - BOTTOM}` }));
  if (isAcross) svg.append(written(WIDTH - right - 4, at.y(y) - 5, name, "end"));
  else svg.append(written(at.x(x) - 6, TOP + 12, name, "end"));
};

const frontOf = (marks, isMore) => {
  const found = [];
  for (const mark of marks.filter((each) => each.kind !== "failed" && !each.why)
    .sort((a, b) => (isMore ? b.x - a.x : a.x - b.x) || a.y - b.y)) {
    if (!found.length || mark.y < found.at(-1).y) found.push(mark);
  }
  return found;
};

const scattered = (svg, marks, { rules = [], show, isMore }) => {
  svg.closest(".card").hidden = !marks.length;
  if (!marks.length) return;
  const sides = rules.filter((each) => each.y === null);
  const limits = rules.filter((each) => each.y !== null);
  const across = linear(1.12 * Math.max(...marks.map((each) => each.x), ...sides.map((each) => each.x)), show);
  const at = framed(svg, across, decades([...marks.flatMap((each) => each.spread ?? [each.y]), ...limits.map((each) => each.y)], 10, klShown));
  for (const rule of rules) ruled(svg, at, rule);
  const front = frontOf(marks, isMore).map((each) => [at.x(each.x), at.y(each.y)]);
  const corners = front.flatMap(([x, y], number) => (number ? [[x, front[number - 1][1]], [x, y]] : [[x, y]]));
  if (front.length > 1) svg.append(drawn("path", { class: "front", d: pathOf(corners) }));
  const taken = marks.map((each) => [at.x(each.x) - 7, at.y(each.y) - 7, at.x(each.x) + 7, at.y(each.y) + 7]);
  for (const each of marks.sort((a, b) => Boolean(a.why) - Boolean(b.why))) {
    const group = linkedTo(each);
    const [x, y] = [at.x(each.x), at.y(each.y)];
    if (each.spread) group.append(drawn("path", { class: "spread", d: `M${x} ${at.y(each.spread[1])}V${at.y(each.spread[0])}` }));
    group.append(drawn("circle", { class: each.kind, cx: x, cy: y, r: 6 }));
    named(group, taken, cutTo(each.name) + (each.kind === "failed" ? ", failed" : ""), x, y);
    svg.append(group);
  }
};

const lined = (svg, drawnLines, rules, room, context) => {
  svg.closest(".card").hidden = !drawnLines.length;
  if (!drawnLines.length) return;
  const pairs = drawnLines.flatMap((each) => [...each.points, ...each.marks]);
  const most = Math.max(...pairs.map(([, taken]) => taken), ...rules.map((each) => each.y));
  const up = linear(1.1 * Math.max(most, room < 2 * most ? room : 0), sizeShown);
  const across = decades(pairs.map(([tokens]) => tokens), 2, (value) => (value >= 1024 ? `${value / 1024}k` : String(value)));
  const at = framed(svg, across, up, NAMED);
  for (const rule of rules) ruled(svg, at, rule, NAMED);
  svg.append(drawn("path", { class: "asked", d: `M${at.x(context)} ${TOP}V${HEIGHT - BOTTOM}` }));
  const isAbove = up.share(room) > 1;
  const edge = isAbove ? TOP : at.y(room);
  svg.append(drawn("path", { class: "room", d: `M${LEFT} ${edge}H${WIDTH - NAMED}` }),
    written(LEFT + 8, edge - 7, `${sizeOf(room)} of room${isAbove ? ": above this" : ""}`, "start", "room"));
  const ordered = drawnLines.map((each) => ({ ...each, places: each.points.map(([x, y]) => [at.x(x), at.y(y)]) }))
    .sort((a, b) => a.places.at(-1)[1] - b.places.at(-1)[1]);
  const heights = [];
  for (const { places } of ordered) heights.push(Math.max(places.at(-1)[1] + 5, (heights.at(-1) ?? -LINE) + LINE));
  const over = Math.max(0, heights.at(-1) - (HEIGHT - BOTTOM + 20));
  for (let number = heights.length - 1; number >= 0; number -= 1) {
    heights[number] = Math.min(heights[number], number + 1 < heights.length ? heights[number + 1] - LINE : heights[number] - over);
  }
  ordered.forEach((each, number) => {
    const group = linkedTo(each);
    const [x, y] = each.places.at(-1);
    group.append(drawn("path", { class: "line estimated", d: pathOf(each.places) }));
    for (const [tokens, taken] of each.marks) group.append(drawn("circle", { class: "good", cx: at.x(tokens), cy: at.y(taken), r: 4 }));
    group.append(drawn("path", { class: "lead", d: pathOf([[x + 5, y], [WIDTH - NAMED + 20, heights[number] - 5]]) }),
      written(WIDTH - NAMED + 24, heights[number], cutTo(each.name), "start", "name"));
    svg.append(group);
  });
};

const specs = Object.fromEntries([...document.querySelectorAll("svg[data-plot]")].map((svg) => [
  svg.dataset.plot, { svg, ...JSON.parse(svg.dataset.spec) }]));

const plotted = ({ fits, machine, need }) => {
  const places = new Map(fits.map((each) => [each.candidate.key, each]));
  const why = (key) => (key ? places.has(key) ? places.get(key).whyNot : "opens in no runtime for this machine" : "");
  const klOf = (place) => place.candidate.kl ?? place.expected.kl;
  const own = (specs.size?.drawn ?? []).map((each) => ({ ...each, ...each.about, why: why(each.about.key) }));
  const reported = new Set([...own, ...(specs.memory?.drawn ?? [])].map((each) => each.key ?? each.about.key));
  const others = fits.filter((each) => !reported.has(each.candidate.key) && klOf(each) > SMALLEST_KL).slice(0, MOST_GUESSES);
  const guesses = others.map((place) => ({
    name: place.candidate.title, key: place.candidate.key, kind: "guess", link: "field",
    y: klOf(place), why: place.whyNot, hover: `${place.candidate.title}: KL about ${klShown(klOf(place))}`, place,
  }));
  const weighs = ({ place }) => place.memory.weights * place.parallel;
  if (specs.size) {
    const marks = [...own, ...guesses.map((each) => ({ ...each, x: weighs(each), hover: `${each.hover}, ${sizeOf(weighs(each))}` }))];
    scattered(specs.size.svg, marks, { rules: specs.size.rules, show: sizeShown });
  }
  if (specs.speed) {
    const timed = [...own.filter((each) => places.has(each.key)).map((each) => ({ ...each, place: places.get(each.key) })), ...guesses];
    scattered(specs.speed.svg, timed.map((each) => ({
      ...each, x: each.place.speed.user, kind: each.place.speed.isMeasured || each.kind === "failed" ? each.kind : "guess",
      hover: `${each.hover}, ${rateOf(each.place.speed.user)} tok/s`,
    })), { show: plainly, isMore: true });
  }
  if (specs.memory) {
    const measured = specs.memory.drawn.map((each) => ({ ...each, ...each.about, why: why(each.about.key) }));
    const estimated = others.slice(0, MOST_LINES).map((place) => {
      const lengths = CONTEXTS.filter((tokens) => tokens <= data.models[place.candidate.label].context);
      const points = lengths.map((context) => [context, totalOf(fitOf(place.candidate, place.name, machine, { ...need, context }).memory)]);
      const [tokens, taken] = points.at(-1);
      return { name: place.candidate.title, points, marks: [], link: "field", why: place.whyNot,
        hover: `${place.candidate.title}: about ${sizeOf(taken)} at ${thousands(tokens)} tokens` };
    });
    const room = fits[0]?.room ?? 0;
    lined(specs.memory.svg, [...measured, ...estimated], specs.memory.rules, room, need.context);
  }
};
