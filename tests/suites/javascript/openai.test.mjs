// OpenAI's JavaScript client on every route that it knows of this server: whole answers, streams, helpers, tools, errors.

import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

import { call, END, MODEL, saying, SERVER, thought, tokensOf } from "./forcing.mjs";

const settings = { baseURL: `${SERVER}/v1`, apiKey: "none", maxRetries: 0 };
const client = new OpenAI(settings);
const clientSaying = (...texts) => new OpenAI({ ...settings, fetch: saying(...texts) });
const messages = [{ role: "user", content: "How deep is the river?" }];
const model = MODEL;
const depth = {
  type: "function",
  function: {
    name: "depth",
    description: "How deep a river is.",
    parameters: { type: "object", properties: { river: { type: "string" } }, required: ["river"], additionalProperties: false },
  },
};

test("models are listed and found", async () => {
  const names = [];
  for await (const found of client.models.list()) names.push(found.id);
  assert.ok(names.includes(model));
  assert.equal((await client.models.retrieve(model)).id, model);
  await assert.rejects(client.models.retrieve("no-such-model"), OpenAI.NotFoundError);
});

test("completions, whole and streamed", async () => {
  const asked = { model, prompt: "The river", max_tokens: 8, forced_token_ids: await tokensOf(` is deep.${END}`) };
  const whole = await client.completions.create(asked);
  assert.equal(whole.choices[0].text, " is deep.");
  assert.equal(whole.choices[0].finish_reason, "stop");
  let text = "";
  for await (const chunk of await client.completions.create({ ...asked, stream: true })) text += chunk.choices[0]?.text ?? "";
  assert.equal(text, " is deep.");
});

test("a chat, whole, with its request's id", async () => {
  const { data, response } = await clientSaying("Three metres.").chat.completions.create({ model, messages }).withResponse();
  assert.equal(data.choices[0].message.content, "Three metres.");
  assert.equal(data.usage.total_tokens, data.usage.prompt_tokens + data.usage.completion_tokens);
  assert.equal(data._request_id, response.headers.get("x-request-id"));
});

test("the stream's helper adds the events up to the whole answer", async () => {
  const deltas = [];
  const stream = clientSaying(`${thought("It is a river.")}Three metres.`).chat.completions.stream({
    model,
    messages,
    stream_options: { include_usage: true },
  });
  stream.on("content", (delta) => deltas.push(delta));
  const whole = await stream.finalChatCompletion();
  assert.equal(whole.choices[0].message.content, "Three metres.");
  assert.equal(deltas.join(""), "Three metres.");
  assert.ok((await stream.totalUsage()).completion_tokens > 3);
});

for (const stream of [false, true]) {
  test(`the runner calls tools until the model has its answer, ${stream ? "streamed" : "whole"}`, async () => {
    const asked = [];
    const tool = {
      type: "function",
      function: {
        ...depth.function,
        parse: JSON.parse,
        function: ({ river }) => {
          asked.push(river);
          return `${river}: 3 m`;
        },
      },
    };
    const texts = [`${thought("I ask.")}${call("depth", { river: "Süß" })}`, call("depth", { river: "Lahn" }), "Both are shallow."];
    const runner = clientSaying(...texts).chat.completions.runTools({ model, messages, tools: [tool], stream });
    assert.equal(await runner.finalContent(), "Both are shallow.");
    assert.deepEqual(asked, ["Süß", "Lahn"]);
    const roles = runner.messages.map((message) => message.role);
    assert.deepEqual(roles, ["user", "assistant", "tool", "assistant", "tool", "assistant"]);
  });
}

test("a custom tool gets its text, whole and streamed, and the conversation goes on", async () => {
  const patch = { type: "custom", custom: { name: "patch", description: "Changes a file." } };
  const asked = { model, messages, tools: [patch, depth] };
  const texts = [call("patch", { input: '- a\n+ "b"' }), "Done."];
  const { message, finish_reason } = (await clientSaying(...texts).chat.completions.create(asked)).choices[0];
  assert.equal(finish_reason, "tool_calls");
  const [made] = message.tool_calls;
  assert.deepEqual([made.type, made.custom], ["custom", { name: "patch", input: '- a\n+ "b"' }]);
  const streamed = { name: "", input: "" };
  for await (const chunk of await clientSaying(...texts).chat.completions.create({ ...asked, stream: true })) {
    for (const { custom } of chunk.choices[0].delta.tool_calls ?? []) {
      streamed.name += custom.name ?? "";
      streamed.input += custom.input;
    }
  }
  assert.deepEqual(streamed, made.custom);
  const result = { role: "tool", tool_call_id: made.id, content: "as asked" };
  const next = await clientSaying(...texts).chat.completions.create({ ...asked, messages: [...messages, message, result] });
  assert.equal(next.choices[0].message.content, "Done.");
});

test("a named tool's arguments fit, whatever the model would write", async () => {
  const tool_choice = { type: "function", function: { name: "depth" } };
  const limited = structuredClone(depth);
  limited.function.parameters.properties.river.enum = ["Lahn", "Nahe"];
  const answer = await client.chat.completions.create({ model, messages, tools: [limited], tool_choice, seed: 3 });
  const [made] = answer.choices[0].message.tool_calls;
  assert.equal(made.function.name, "depth");
  assert.ok(["Lahn", "Nahe"].includes(JSON.parse(made.function.arguments).river));
});

test("zod's schema is taken, its answer parsed, and what does not fit it is not said", async () => {
  const response_format = zodResponseFormat(z.object({ deep: z.boolean(), kind: z.enum(["river", "lake"]) }), "water");
  const given = { deep: true, kind: "lake" };
  const asked = { model, messages, response_format };
  const answer = await clientSaying(JSON.stringify(given)).chat.completions.parse(asked);
  assert.deepEqual(answer.choices[0].message.parsed, given);
  await assert.rejects(clientSaying('{"deep": 3').chat.completions.parse(asked), OpenAI.BadRequestError);
});

test("embeddings come as numbers, though the client asks for base64", async () => {
  const answer = await client.embeddings.create({ model, input: ["a river", "a lake"] });
  assert.equal(answer.data.length, 2);
  assert.ok(answer.data[0].embedding.length > 8);
  assert.ok(answer.data[0].embedding.every(Number.isFinite));
});

test("a stream that is given up is no harm to the next", async () => {
  const controller = new AbortController();
  const asked = { model, messages, stream: true, max_tokens: 2000, ignore_eos: true };
  let count = 0;
  const stream = await client.chat.completions.create(asked, { signal: controller.signal });
  for await (const _ of stream) if (++count === 5) controller.abort();
  assert.equal(count, 5);
  assert.equal((await clientSaying("Yes.").chat.completions.create({ model, messages })).choices[0].message.content, "Yes.");
});

test("errors are the client's own, in words", async () => {
  const wrong = client.chat.completions.create({ model, messages, temperature: -1 });
  await assert.rejects(wrong, (error) => error instanceof OpenAI.BadRequestError && error.param === "temperature");
  await assert.rejects(client.chat.completions.create({ model: "no-such-model", messages }), OpenAI.NotFoundError);
});
