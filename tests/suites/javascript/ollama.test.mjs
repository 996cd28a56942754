// Ollama's JavaScript client: chats, texts, tools, vectors, and what it looks at before it asks.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Ollama } from "ollama";

import { call, END, MODEL, SERVER, thought, tokensOf } from "./forcing.mjs";

const client = new Ollama({ host: SERVER });
const model = MODEL;
const messages = [{ role: "user", content: "How deep is the river?" }];
const saying = async (text) => ({ forced_token_ids: await tokensOf(text + END) });

test("models are listed and shown", async () => {
  const { models } = await client.list();
  assert.ok(models.some(({ name }) => name.startsWith(model)));
  assert.ok((await client.show({ model })).capabilities.includes("tools"));
  assert.ok((await client.ps()).models.length > 0);
});

test("a chat, whole and streamed, with what was thought", async () => {
  const asked = { model, messages, think: true, options: await saying(`${thought("A river.")}Three metres.`) };
  const { message } = await client.chat(asked);
  assert.equal(message.content, "Three metres.");
  assert.equal(message.thinking.trim(), "A river.");
  let text = "";
  for await (const part of await client.chat({ ...asked, stream: true })) text += part.message.content;
  assert.equal(text, "Three metres.");
});

test("a tool is called and its result answered", async () => {
  const parameters = { type: "object", properties: { river: { type: "string" } }, required: ["river"] };
  const tools = [{ type: "function", function: { name: "depth", description: "How deep a river is.", parameters } }];
  const first = await client.chat({ model, messages, tools, options: await saying(call("depth", { river: "Süß" })) });
  const [made] = first.message.tool_calls;
  assert.deepEqual({ ...made.function.arguments }, { river: "Süß" });
  const past = [...messages, first.message, { role: "tool", tool_name: "depth", content: "3 m" }];
  const last = await client.chat({ model, messages: past, tools, options: await saying("Three metres.") });
  assert.equal(last.message.content, "Three metres.");
});

test("a text, whole and streamed", async () => {
  const asked = { model, prompt: "How deep is the river?", options: await saying("Three metres.") };
  assert.equal((await client.generate(asked)).response, "Three metres.");
  let text = "";
  for await (const part of await client.generate({ ...asked, stream: true })) text += part.response;
  assert.equal(text, "Three metres.");
});

test("vectors", async () => {
  const { embeddings } = await client.embed({ model, input: ["a river", "a lake"] });
  assert.equal(embeddings.length, 2);
  assert.ok(Math.abs(embeddings[0].reduce((sum, value) => sum + value * value, 0) - 1) < 1e-3);
});

test("a model that is not there is said so", async () => {
  await assert.rejects(client.chat({ model: "no-such-model", messages }), (error) => error.status_code === 404);
});
