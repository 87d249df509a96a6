// What fit.py and rank.py do, for whoever chooses on the page; the figures must be the same.
const data = JSON.parse(document.getElementById("data").textContent);
const GPU_SHARE = 0.9, PARALLEL_SHARE = 0.8, FLOAT_BYTES = 4, SHORTEST = 512;
const TOO_SLOW = "is too slow";

// Python rounds what lies in the middle to the even neighbor.
const fixed = (value, digits) => {
  const scaled = Math.abs(value) * 10 ** digits;
  const isMiddle = scaled % 1 === 0.5 && Math.floor(scaled) % 2 === 0;
  return isMiddle ? ((Math.sign(value) * Math.floor(scaled)) / 10 ** digits).toFixed(digits) : value.toFixed(digits);
};
const thousands = (value) => value.toLocaleString("en-US");
const sizeOf = (bytes) => {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let [amount, at] = [bytes, 0];
  while (Math.abs(amount) >= 999.5 && at < units.length - 1) { amount /= 1000; at += 1; }
  const digits = at === 0 || Math.abs(amount) >= 99.95 ? 0 : Math.abs(amount) >= 9.995 ? 1 : 2;
  return `${fixed(amount, digits)} ${units[at]}`;
};
const rateOf = (tokens) => fixed(tokens, tokens >= 10 ? 0 : 1);
const counted = (amount, noun) => `${amount} ${noun}${amount === 1 ? "" : "s"}`;
const tokensOf = (count) => (count % 1024 === 0 ? `${count / 1024}k` : thousands(count));
const sum = (values) => values.reduce((total, each) => total + each, 0);

const cacheBytes = (cache, tokens, holds) => {
  let numbers = tokens * (cache.full + (holds.latent === "narrow" ? cache.narrow : cache.wide));
  for (const [seen, each] of cache.windows) {
    numbers += (holds.windows === "kept" ? Math.min(tokens, seen + holds.batch_tokens) : tokens) * each;
  }
  return numbers * holds.cache_value_bytes + cache.state_bytes;
};

const totalOf = (memory) => memory.weights + memory.cache + memory.runtime;
const mostOf = (memory) => totalOf(memory) * (1 + (memory.isMeasured ? 0 : memory.error));

const memoryOf = (model, weighed, holds, context, users) => {
  const prompt = context;
  const rows = Math.min(holds.logits_tokens || prompt, prompt);
  const batch = Math.min(holds.batch_tokens, prompt);
  let reading = rows * model.vocab * holds.logits_bytes;
  reading += batch * model.hidden * holds.hidden_rows * FLOAT_BYTES;
  let texts = users * cacheBytes(model.cache, prompt, holds);
  const answers = users * cacheBytes(model.cache, context, holds) * holds.cache_copies;
  const answering = model.vocab * holds.logits_bytes;
  if (answers + answering > texts + reading) [texts, reading] = [answers, answering];
  const mapped = holds.tables === "mapped" ? weighed.table_bytes : 0;
  const program = holds.base_mb * 1e6 + model.vocab * holds.vocabulary_bytes;
  return {
    weights: (weighed.size_bytes - mapped) * holds.weight_copies, cache: texts,
    runtime: program + reading, error: holds.error, isMeasured: false,
  };
};

const speedOf = (model, weighed, runtime, power, context, users) => {
  const runs = runtime.runs;
  const experts = weighed.expert_bytes * (1 - (1 - weighed.expert_share) ** users);
  const read = weighed.common_bytes + experts
    + users * cacheBytes(model.cache, Math.floor(context / 2), runtime.holds);
  const reading = read / (power.bandwidth * runs.bandwidth_share);
  const computing = (2 * model.active * users) / (power.flops * runs.flops_share);
  const step = Math.max(reading, computing) + runs.step_ms / 1e3;
  return { user: 1 / step, total: users / step, error: runs.error, isMeasured: false };
};

const sequencesOf = (room, memory, one) => {
  const left = room / (1 + memory.error) - memory.weights - memory.runtime;
  return one ? Math.max(0, Math.trunc(left / one)) : 1;
};

const placesOf = function* placesOf(candidate, model, weighed, runtime, machine, need) {
  const { holds } = runtime;
  const one = memoryOf(model, weighed, holds, need.context, 1).cache;
  if (!machine.gpu || !machine.gpus) {
    const whole = memoryOf(model, weighed, holds, need.context, need.users);
    const power = { bandwidth: machine.bandwidth, flops: machine.flops };
    const room = machine.ram_bytes - machine.reserved_bytes;
    const { measured, timed } = candidate;
    let memory = whole;
    if (measured && need.users === 1 && measured.runtime === runtime.verified_by
        && measured.context >= need.context) {
      memory = { weights: measured.weights, cache: 0, runtime: measured.rest, error: 0, isMeasured: true };
    }
    let speed = speedOf(model, weighed, runtime, power, need.context, need.users);
    if (timed && machine.name === "here" && need.users === 1 && timed.machine === machine.title
        && timed.cores === machine.cores && timed.runtime === runtime.verified_by) {
      speed = { user: timed.decode, total: timed.decode, error: 0, isMeasured: true };
    }
    yield { memory, speed, room, parallel: 1, replicas: 1, sequences: sequencesOf(room, whole, one) };
    return;
  }
  for (const parallel of [1, 2, 4, 8, 16]) {
    if (parallel > machine.gpus) continue;
    if (parallel > 1 && !(runtime.parallel && model.shares.includes(parallel))) continue;
    const replicas = runtime.parallel ? Math.floor(machine.gpus / parallel) : 1;
    const users = Math.ceil(need.users / replicas);
    const memory = memoryOf(model, weighed, holds, need.context, users);
    memory.weights /= parallel;
    memory.cache /= parallel;
    const room = machine.gpu.memory_bytes * GPU_SHARE;
    const rest = parallel > 1 ? PARALLEL_SHARE : 1;
    const power = {
      bandwidth: machine.gpu.bandwidth * parallel * rest,
      flops: machine.gpu.flops * parallel * rest * boostOf(candidate, runtime),
    };
    const speed = speedOf(model, weighed, runtime, power, need.context, users);
    speed.total = speed.user * need.users;
    const sequences = replicas * sequencesOf(room, memory, one / parallel);
    yield { memory, speed, room, parallel, replicas, sequences };
  }
};

const faultOf = (place, candidate, model, runtime, machine, need) => {
  if (candidate.is_failed) return candidate.state;
  if (need.language && model.languages && !model.languages.includes(need.language)) {
    return `does not speak ${need.language}`;
  }
  if (need.context > model.context) return `reads ${thousands(model.context)} tokens`;
  if (!model.is_chat) return "continues texts, does not chat";
  if (runtime.systems.length && !runtime.systems.includes(machine.os)) {
    return `${runtime.title} is not for ${machine.os}`;
  }
  for (const [begin, needed] of Object.entries(runtime.needs)) {
    if (candidate.target.startsWith(begin) && machine.gpu && !machine.gpu.types.includes(needed)) {
      return `${machine.gpu.title} has no ${needed}`;
    }
  }
  const kl = candidate.kl ?? place.expected.kl;
  if (need.max_kl !== null && kl > need.max_kl) return `KL ${fixed(kl, 3)}${candidate.kl === null ? " ~" : ""}`;
  if (place.speed.user < need.min_speed) return `${fixed(place.speed.user, 1)} tok/s ${TOO_SLOW}`;
  return "";
};

const boostOf = (candidate, runtime) => Math.max(1, ...Object.entries(runtime.boost)
  .filter(([begin]) => candidate.target.startsWith(begin)).map(([, factor]) => factor));

const fitOf = (candidate, name, machine, need) => {
  if (!candidate.weighed) return null;
  const [runtime, model] = [data.runtimes[name], data.models[candidate.label]];
  const bits = candidate.format === "hf" ? runtime.bits : null;
  let { weighed } = candidate;
  if (bits !== null) {
    weighed = { ...weighed };
    for (const part of ["size_bytes", "table_bytes", "common_bytes", "expert_bytes"]) {
      weighed[part] = Math.trunc(weighed[part] * (bits / 16));
    }
  }
  const found = [...placesOf(candidate, model, weighed, runtime, machine, need)];
  const isCertain = (place) => mostOf(place.memory) <= place.room;
  const spare = (place) => place.room - totalOf(place.memory);
  const best = found.find(isCertain) ?? found.reduce((a, b) => (spare(b) > spare(a) ? b : a));
  best.expected = candidate.by_bits[bits === null ? "" : String(bits)];
  const fault = faultOf(best, candidate, model, runtime, machine, need);
  const place = {
    ...best, candidate, runtime, name, fault, spare: spare(best),
    loss: best.expected.loss - (boostOf(candidate, runtime) > 1 ? data.native : 0),
    isCertain: isCertain(best), isSuited: !fault || fault.endsWith(TOO_SLOW),
  };
  place.isAnswer = !fault && place.isCertain;
  place.isQuick = best.speed.user * (1 - best.speed.error) >= need.min_speed;
  place.whyNot = fault;
  if (!place.isCertain && place.isSuited) {
    const heads = model.kv_heads;
    const isCache = best.memory.cache > best.memory.weights / 4;
    place.whyNot = place.spare >= 0 ? "too close to the limit"
      : isCache && heads ? `does not fit: ${heads} KV heads` : "does not fit";
  }
  return place;
};

const offeredBy = (runtime) => {
  const found = [];
  if (!runtime.menu.length) return found;
  const labels = [...new Set(data.candidates.filter((each) => !each.is_alone).map((each) => each.label))];
  for (const label of labels) {
    const own = data.candidates.filter((each) => each.label === label);
    if (!runtime.always && own.some((each) => runtime.formats.includes(each.format))) continue;
    const have = own.map((each) => `${each.target} ${each.format}`);
    for (const text of runtime.menu) {
      const each = data.further[label][text];
      if (each && !have.includes(`${each.target} ${each.format}`)) found.push(each);
    }
  }
  return found;
};

const rankOf = (machine, need) => {
  const found = new Map();
  const isForSpeed = need.goal === "speed" && need.users === 1;
  for (const name of machine.runtimes) {
    const runtime = data.runtimes[name];
    if (!runtime.kinds.includes(machine.kind) && machine.runtimes.length > 1) continue;
    for (const each of [...data.candidates, ...offeredBy(runtime)]) {
      const before = found.get(each.key);
      if (!runtime.formats.includes(each.format) || (before && !isForSpeed)) continue;
      const place = fitOf(each, name, machine, need);
      const isBetter = place && (!before || (place.isAnswer === before.isAnswer
        ? place.speed.user > before.speed.user : place.isAnswer));
      if (isBetter) found.set(each.key, place);
    }
  }
  const fits = [...found.values()];
  const goal = (each) => (need.goal === "speed" ? -each.speed.user
    : need.goal === "size" ? each.memory.weights : each.loss);
  const order = (each) => [
    !each.isAnswer, each.spare < 0, isForSpeed ? 0 : machine.runtimes.indexOf(each.name), !each.isQuick, goal(each),
  ];
  fits.sort((one, other) => {
    const [a, b] = [order(one), order(other)];
    const at = a.findIndex((value, place) => value !== b[place]);
    return at < 0 ? 0 : a[at] < b[at] ? -1 : 1;
  });
  const answer = fits[0]?.isAnswer ? fits[0] : null;
  if (answer || !fits.length) return { machine, need, fits, answer, nearest: null, gives: [] };
  const lacks = (each) => mostOf(each.memory) - each.room;
  const least = (found) => (found.length ? found.reduce((a, b) => (lacks(b) < lacks(a) ? b : a)) : null);
  const suited = fits.filter((each) => each.isSuited);
  const nearest = suited.length ? least(suited) : least(fits.filter((each) => !each.candidate.is_failed));
  return { machine, need, fits, answer, nearest, gives: nearest ? givesOf(nearest, machine, need) : [] };
};

const givesOf = (nearest, machine, need) => {
  const found = [];
  const isSlow = nearest.speed.user < need.min_speed;
  const asked = isSlow ? { ...need, min_speed: nearest.speed.user * 0.999 } : need;
  const works = (changed, candidate = nearest.candidate) => (
    fitOf(candidate, nearest.name, machine, { ...asked, ...changed })?.isAnswer ?? false);
  let context = Math.floor(need.context / 2);
  while (context >= SHORTEST && !works({ context })) context = Math.floor(context / 2);
  if (context >= SHORTEST) found.push(`${tokensOf(need.context)} → ${tokensOf(context)} tokens`);
  for (let users = need.users - 1; users > 0; users -= 1) {
    if (works({ users })) { found.push(`${need.users} → ${users} users`); break; }
  }
  const short = (target) => target.slice(target.indexOf("-") + 1 || target.length);
  for (const text of nearest.runtime.smaller) {
    const smaller = data.further[nearest.candidate.label][text];
    if (smaller && works({}, smaller)) {
      found.push(`${short(nearest.candidate.target)} → ${short(smaller.target)}`);
      break;
    }
  }
  const lacking = mostOf(nearest.memory) - nearest.room;
  if (lacking > 0) found.push(`+${sizeOf(lacking)} of ${machine.gpus ? "GPU " : ""}memory`);
  else if (!found.length && !nearest.isSuited) found.push(nearest.fault);
  if (need.min_speed > asked.min_speed) {
    const slower = `${+need.min_speed} → ${fixed(nearest.speed.user, 1)} tok/s`;
    return found.length ? found.map((each) => `${each} and ${slower}`) : [slower];
  }
  return found;
};

const headingOf = ({ machine, need }) => {
  const gpus = machine.gpu && machine.gpus;
  const text = gpus ? `${machine.gpus} × ${machine.gpu.title}, ${sizeOf(machine.gpu.memory_bytes)} each`
    : `${sizeOf(machine.ram_bytes)}, ${["apple", "browser"].includes(machine.kind) ? "a shared GPU" : "no GPU"}`;
  const room = machine.gpus ? "" : `: ${sizeOf(machine.ram_bytes - machine.reserved_bytes)} for the model`;
  const parts = [text + room, `${thousands(need.context)} tokens`, counted(need.users, "user")];
  if (need.language) parts.push(data.languages[need.language] ?? need.language);
  return parts.join(" · ");
};

const sentenceOf = (found) => {
  const { answer, nearest } = found;
  if (!answer && !nearest) {
    return found.fits.length ? "Nothing: every candidate has failed its verification."
      : "Nothing that is here can be opened there.";
  }
  if (!answer) {
    const gives = found.gives.length ? `; what would have to give: ${found.gives.join(", or ")}` : "";
    return `Nothing fits. The nearest is ${nearest.candidate.title}: ${nearest.whyNot}${gives}.`;
  }
  const { speed, candidate } = answer;
  let quick = `${speed.isMeasured ? "" : "about "}${rateOf(speed.user)} tok/s`;
  if (found.need.users > 1) quick += ` each, ${rateOf(speed.total)} in all`;
  const kl = candidate.kl === null ? "KL not measured" : `KL ${fixed(candidate.kl, 3)}`;
  const total = totalOf(answer.memory);
  const of = fixed(answer.room / 1e9, 1);
  const room = total >= 1e8 ? `${fixed(total / 1e9, 1)} GB of ${of}` : `${sizeOf(total)} of ${of} GB`;
  return `Take ${candidate.title} in ${answer.runtime.title}: ${room}, ${quick}, ${kl}.`;
};

const reasonOf = ({ answer: best, need, machine, fits }) => {
  if (!best) return "";
  const said = [`${data.goals[need.goal]} in ${best.runtime.title}, with the error of the estimate`];
  if (best.parallel > 1) {
    said.push(`${best.parallel} GPUs share it, as one has too little room`
      + (best.replicas > 1 ? `, ${best.replicas} times` : ""));
  } else if (best.replicas > 1) said.push(`one GPU holds it: ${best.replicas} replicas behind a load balancer`);
  if (machine.gpus) said.push(`${counted(best.sequences, "text")} of ${thousands(need.context)} tokens fit at once`);
  const better = fits.filter((each) => each.loss < best.loss && each.isSuited && need.goal === "quality");
  better.sort((one, other) => totalOf(one.memory) - totalOf(other.memory));
  for (const each of better.slice(0, 2)) {
    const why = each.whyNot || (each.isQuick ? `runs in ${each.runtime.title}` : "may be too slow");
    said.push(`${each.candidate.title}: ${
      why === "too close to the limit" ? "fits only with everything else closed" : why}`);
  }
  return said.join("; ");
};

const commandsOf = ({ answer, need }) => {
  if (!answer) return [];
  const { runtime, candidate, parallel } = answer;
  const values = {
    ...candidate.names, context: need.context, users: need.users, all_tokens: need.context * need.users,
    sequences: Math.max(need.users, Math.min(Math.floor(answer.sequences / answer.replicas), 256)),
    parallel: parallel > 1 ? ` --tensor-parallel-size ${parallel}` : "",
    tp_size: parallel > 1 ? ` --tp_size ${parallel}` : "",
  };
  const template = need.users > 1 && runtime.serve ? runtime.serve : runtime.run;
  const run = template.replace(/\{(\w+)\}/g, (_, name) => values[name]);
  return [candidate.build, run].filter(Boolean);
};

const chooseOn = (name, asked, memoryGb) => {
  const machine = { ...data.machines[name] };
  if (memoryGb > 0 && machine.gpus) machine.gpu = { ...machine.gpu, memory_bytes: memoryGb * 1e9 };
  else if (memoryGb > 0) {
    machine.ram_bytes = memoryGb * 1e9;
    machine.reserved_bytes = Math.min(machine.reserved_bytes, machine.ram_bytes / 2);
  }
  return rankOf(machine, { ...data.need, ...asked });
};

const chosen = () => {
  const control = (name) => document.querySelector(`#choose [name=${name}]`);
  const machine = data.machines[control("on").value];
  const memory = machine.gpus ? machine.gpu.memory_bytes : machine.ram_bytes;
  document.getElementById("memory-of").textContent = machine.gpus ? "each GPU's memory" : "memory";
  control("memory").placeholder = String(memory / 1e9);
  const found = chooseOn(control("on").value, {
    context: Number(control("context").value), users: Math.max(1, Math.trunc(Number(control("users").value)) || 1),
    language: control("language").value || null, goal: control("goal").value,
  }, Number(control("memory").value.replace(",", ".")));
  document.getElementById("chosen-for").textContent = headingOf(found);
  document.getElementById("answer").textContent = sentenceOf(found);
  document.getElementById("reason").textContent = reasonOf(found);
  const box = document.getElementById("commands");
  const commands = commandsOf(found);
  [...box.children].forEach((each, at) => {
    each.hidden = at >= commands.length;
    each.querySelector("code").textContent = commands[at] ?? "";
  });
  const places = new Map(found.fits.map((each) => [each.candidate.key, each]));
  const ranks = new Map(found.fits.map((each, at) => [each.candidate.key, at]));
  for (const row of document.querySelectorAll("#rows tbody tr:not(.source)")) {
    const place = places.get(row.dataset.key);
    row.dataset.rank = ranks.get(row.dataset.key) ?? ranks.size;
    row.toggleAttribute("data-absent", "further" in row.dataset && !place);
    row.classList.toggle("chosen", Boolean(place) && place === found.answer);
    row.classList.toggle("out", !place || !place.isAnswer);
    const [needs, here] = [row.querySelector(".needs"), row.querySelector(".here")];
    needs.dataset.value = place ? totalOf(place.memory) : "";
    needs.textContent = place ? sizeOf(totalOf(place.memory)) + (place.memory.isMeasured ? "" : " ~") : "";
    here.dataset.value = place ? place.speed.user : "";
    here.textContent = place ? place.whyNot || `${place.speed.isMeasured ? "" : "about "}${rateOf(place.speed.user)} tok/s`
      : "opens in no runtime for this machine";
  }
  return found;
};
