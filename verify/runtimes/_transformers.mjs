// A model in transformers.js, asked in lines of JSON on stdin: one answer a line on stdout.
// node _transformers.mjs MODULES FOLDER PROVIDER
import { createRequire } from "node:module";
import path from "node:path";
import readline from "node:readline";
import { pathToFileURL } from "node:url";

const [modules, folder, device] = process.argv.slice(2);
const found = createRequire(path.join(modules, "node_modules", "_")).resolve("@huggingface/transformers");
const { AutoModelForCausalLM, AutoTokenizer, DynamicCache, Tensor, env } = await import(pathToFileURL(found));

env.allowRemoteModels = false;
env.localModelPath = path.dirname(folder);
const name = path.basename(folder);
const tokenizer = await AutoTokenizer.from_pretrained(name);
const model = await AutoModelForCausalLM.from_pretrained(name, { device });
let past = null;
let seen = 0;

const calls = {
  open: () => ({ version: env.version }),
  encode: ({ text, add_bos }) => ({ ids: tokenizer.encode(text, { add_special_tokens: add_bos }) }),
  start: () => {
    past = null;
    seen = 0;
    return {};
  },
  // Reads tokens, and gives the logits after each, or after the last.
  run: async ({ ids, rows }) => {
    const count = ids.length;
    const input_ids = new Tensor("int64", BigInt64Array.from(ids.map(BigInt)), [1, count]);
    const ones = new BigInt64Array(seen + count).fill(1n);
    const attention_mask = new Tensor("int64", ones, [1, seen + count]);
    const out = await model({ input_ids, attention_mask, past_key_values: past });
    const kept = Object.entries(out).filter(([key]) => key.startsWith("present"));
    past = new DynamicCache(
      Object.fromEntries(kept.map(([key, value]) => [key.replace("present", "past_key_values"), value])),
    );
    seen += count;
    const [, , size] = out.logits.dims;
    const floats = out.logits.to("float32").data;
    const wanted = floats.slice((count - rows) * size);
    const bytes = Buffer.from(wanted.buffer, wanted.byteOffset, wanted.byteLength);
    return { size, logits: bytes.toString("base64") };
  },
};

for await (const line of readline.createInterface({ input: process.stdin })) {
  const { call, ...args } = JSON.parse(line);
  let answer;
  try {
    answer = await calls[call](args);
  } catch (error) {
    answer = { error: String(error?.message ?? error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
