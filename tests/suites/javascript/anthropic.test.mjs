// Anthropic's JavaScript client: whole answers, the stream's helper, the runner of tools, thinking, counting, errors.

import assert from "node:assert/strict";
import { test } from "node:test";

import Anthropic from "@anthropic-ai/sdk";
import { betaZodTool } from "@anthropic-ai/sdk/helpers/beta/zod";
import { zodOutputFormat } from "@anthropic-ai/sdk/helpers/zod";
import { z } from "zod";

import { call, MODEL, saying, SERVER, thought } from "./forcing.mjs";

const settings = { baseURL: SERVER, apiKey: "none", maxRetries: 0 };
const client = new Anthropic(settings);
const clientSaying = (...texts) => new Anthropic({ ...settings, fetch: saying(...texts) });
const asked = { model: MODEL, max_tokens: 200, messages: [{ role: "user", content: "How deep is the river?" }] };
const runningRequests = async () => {
  const told = await (await fetch(`${SERVER}/metrics`)).text();
  return Number(told.match(/^vllm:num_requests_running\{.*\} (.*)$/m)[1]);
};
const thinking = { type: "enabled", budget_tokens: 1024 };

test("models are listed and found", async () => {
  const names = [];
  for await (const found of client.models.list()) names.push(found.id);
  assert.ok(names.includes(MODEL));
  assert.equal((await client.models.retrieve(MODEL)).id, MODEL);
});

test("an answer, whole, with what was thought", async () => {
  const said = clientSaying(`${thought("A river.")}Three metres.`);
  const answer = await said.messages.create({ ...asked, max_tokens: 2000, system: "Be brief.", thinking });
  assert.deepEqual(answer.content.map((block) => block.type), ["thinking", "text"]);
  assert.equal(answer.content[0].thinking.trim(), "A river.");
  assert.equal(answer.content[1].text, "Three metres.");
  assert.equal(answer.stop_reason, "end_turn");
  assert.ok(answer.usage.input_tokens > 5);
});

test("the stream's helper adds the events up to the whole answer", async () => {
  let text = "";
  const stream = clientSaying("Three metres.").messages.stream(asked);
  stream.on("text", (delta) => (text += delta));
  const whole = await stream.finalMessage();
  assert.equal(await stream.finalText(), "Three metres.");
  assert.equal(text, "Three metres.");
  assert.equal(whole.stop_reason, "end_turn");
  assert.ok(whole.usage.output_tokens > 3);
});

for (const stream of [false, true]) {
  test(`the runner calls tools until the model has its answer, ${stream ? "streamed" : "whole"}`, async () => {
    const rivers = [];
    const depth = betaZodTool({
      name: "depth",
      description: "How deep a river is.",
      inputSchema: z.object({ river: z.string() }),
      run: async ({ river }) => {
        rivers.push(river);
        return `${river}: 3 m`;
      },
    });
    const texts = [`${thought("I ask.")}${call("depth", { river: "Süß" })}`, call("depth", { river: "Lahn" }), "Both are shallow."];
    const runner = clientSaying(...texts).beta.messages.toolRunner({ ...asked, tools: [depth], stream });
    const last = await runner.runUntilDone();
    assert.equal(last.content.at(-1).text, "Both are shallow.");
    assert.deepEqual(rivers, ["Süß", "Lahn"]);
  });
}

test("zod's schema is taken and its answer parsed", async () => {
  const given = { deep: true, kind: "lake" };
  const format = zodOutputFormat(z.object({ deep: z.boolean(), kind: z.enum(["river", "lake"]) }));
  const answer = await clientSaying(JSON.stringify(given)).messages.parse({ ...asked, output_config: { format } });
  assert.deepEqual(answer.parsed_output, given);
});

test("tokens are counted without an answer", async () => {
  const { input_tokens } = await client.messages.countTokens({ model: asked.model, messages: asked.messages });
  const answer = await clientSaying("Yes.").messages.create(asked);
  const { usage } = answer;
  assert.equal(usage.input_tokens + (usage.cache_read_input_tokens ?? 0) + (usage.cache_creation_input_tokens ?? 0), input_tokens);
});

test("a limit and a stop sequence end an answer as they should", async () => {
  const cut = await clientSaying("Three metres, or four.").messages.create({ ...asked, max_tokens: 2 });
  assert.equal(cut.stop_reason, "max_tokens");
  const stopped = await clientSaying("Three metres, or four.").messages.create({ ...asked, stop_sequences: [", or"] });
  assert.equal(stopped.stop_reason, "stop_sequence");
  assert.equal(stopped.stop_sequence, ", or");
  assert.equal(stopped.content[0].text, "Three metres");
});

test("a stream that is aborted ends, and the next request is answered", async () => {
  const stream = clientSaying("river ".repeat(400)).messages.stream({ ...asked, max_tokens: 2000 });
  let count = 0;
  stream.on("text", () => ++count === 5 && stream.abort()); // what has come by then is still told
  await assert.rejects(stream.done(), Anthropic.APIUserAbortError);
  assert.ok(count < 200, `${count} texts`);
  const answer = await clientSaying("Yes.").messages.create(asked);
  assert.equal(answer.content[0].text, "Yes.");
  for (let waited = 0; (await runningRequests()) > 0; waited += 50) {
    assert.ok(waited < 10_000, "the server goes on with an answer that nobody reads");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
});

test("a thread is refused by the name that the client knows", async () => {
  const thread = client.beta.messages.thread({ model: MODEL, max_tokens: 20 });
  const sent = thread.send({ role: "user", content: "How deep is the river?" });
  await assert.rejects(sent, (error) => error instanceof Anthropic.BadRequestError && error.errorCode === "thread_unsupported_request");
});

test("errors are the client's own, in words", async () => {
  const wrong = client.messages.create({ ...asked, temperature: -1 });
  await assert.rejects(wrong, (error) => error instanceof Anthropic.BadRequestError && error.error.error.type === "invalid_request_error");
  await assert.rejects(client.messages.create({ ...asked, model: "no-such-model" }), Anthropic.NotFoundError);
});
