// OpenAI's JavaScript client on the Responses API: whole answers, typed events, parsed ones, tools of both kinds, errors.

import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI from "openai";
import { zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

import { call, MODEL, saying, SERVER, thought } from "./forcing.mjs";

const settings = { baseURL: `${SERVER}/v1`, apiKey: "none", maxRetries: 0 };
const client = new OpenAI(settings);
const clientSaying = (...texts) => new OpenAI({ ...settings, fetch: saying(...texts) });
const model = MODEL;
const input = "How deep is the river?";
const depth = {
  type: "function",
  name: "depth",
  description: "How deep a river is.",
  parameters: { type: "object", properties: { river: { type: "string" } }, required: ["river"], additionalProperties: false },
  strict: true,
};

test("an answer, whole", async () => {
  const answer = await clientSaying(`${thought("A river.")}Three metres.`).responses.create({ model, input, instructions: "Be brief." });
  assert.equal(answer.output_text, "Three metres.");
  assert.equal(answer.status, "completed");
  assert.deepEqual(answer.output.map((item) => item.type), ["reasoning", "message"]);
  assert.equal(answer.usage.total_tokens, answer.usage.input_tokens + answer.usage.output_tokens);
});

test("the stream's helper adds the events up to the whole answer", async () => {
  const types = [];
  let text = "";
  const stream = clientSaying("Three metres.").responses.stream({ model, input });
  stream.on("event", (event) => types.push(event.type));
  stream.on("response.output_text.delta", (event) => (text += event.delta));
  const whole = await stream.finalResponse();
  assert.equal(whole.output_text, "Three metres.");
  assert.equal(text, "Three metres.");
  assert.equal(types[0], "response.created");
  assert.equal(types.at(-1), "response.completed");
});

test("tools are called and their outputs answered, with all items sent back as they came", async () => {
  const patch = { type: "custom", name: "patch", description: "Changes a file." };
  const texts = [`${thought("I ask.")}${call("depth", { river: "Süß" })}`, call("patch", { input: "- a\n+ b" }), "Done."];
  const items = [{ role: "user", content: input }];
  const made = [];
  for (;;) {
    const answer = await clientSaying(...texts).responses.create({ model, input: items, tools: [depth, patch], store: false });
    items.push(...answer.output);
    const calls = answer.output.filter((item) => item.type.endsWith("_call"));
    if (calls.length === 0) {
      assert.equal(answer.output_text, "Done.");
      break;
    }
    for (const { type, call_id, name, ...given } of calls) {
      made.push([name, given.arguments ?? given.input]);
      items.push({ type: `${type}_output`, call_id, output: "as asked" });
    }
  }
  assert.deepEqual(made.map(([name]) => name), ["depth", "patch"]);
  assert.deepEqual(JSON.parse(made[0][1]), { river: "Süß" });
  assert.equal(made[1][1], "- a\n+ b");
});

test("zod's schema is taken and its answer parsed", async () => {
  const given = { deep: true, kind: "lake" };
  const format = zodTextFormat(z.object({ deep: z.boolean(), kind: z.enum(["river", "lake"]) }), "water");
  const answer = await clientSaying(JSON.stringify(given)).responses.parse({ model, input, text: { format } });
  assert.deepEqual(answer.output_parsed, given);
});

test("a long conversation is made short, and goes on", async () => {
  const said = [{ role: "user", content: input }, { role: "assistant", content: "Three metres." }];
  const short = await clientSaying("The river is three metres deep.").responses.compact({ model, input: said });
  assert.deepEqual(short.output.map((item) => item.type), ["message", "compaction"]);
  const going = [...short.output, { role: "user", content: "And the lake?" }];
  assert.equal((await clientSaying("Five.").responses.create({ model, input: going })).output_text, "Five.");
});

test("a limit ends an answer as incomplete", async () => {
  const answer = await client.responses.create({ model, input, max_output_tokens: 16, ignore_eos: true });
  assert.equal(answer.status, "incomplete");
  assert.equal(answer.incomplete_details.reason, "max_output_tokens");
});

test("errors are the client's own, in words", async () => {
  const wrong = client.responses.create({ model, input, temperature: -1 });
  await assert.rejects(wrong, (error) => error instanceof OpenAI.BadRequestError && error.param === "temperature");
  await assert.rejects(client.responses.create({ model: "no-such-model", input }), OpenAI.NotFoundError);
});
