// Vercel's AI SDK, which most web applications use: its steps of tools, its streams and objects, over each API that it speaks.

import assert from "node:assert/strict";
import { test } from "node:test";

import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { embed, generateObject, generateText, isStepCount, streamText, tool } from "ai";
import { z } from "zod";

import { call, MODEL, saying, SERVER, thought } from "./forcing.mjs";

const prompt = "How deep is the river?";
const openai = (...texts) => createOpenAI({ baseURL: `${SERVER}/v1`, apiKey: "none", fetch: saying(...texts) });
const apis = {
  chat: (...texts) => openai(...texts).chat(MODEL),
  responses: (...texts) => openai(...texts).responses(MODEL),
  messages: (...texts) => createAnthropic({ baseURL: `${SERVER}/v1`, apiKey: "none", fetch: saying(...texts) })(MODEL),
};

for (const [name, modelSaying] of Object.entries(apis)) {
  const ask = (asked) => ({
    model: modelSaying(`${thought("I ask.")}${call("depth", { river: "Süß" })}`, "Three metres."),
    prompt,
    maxRetries: 0,
    stopWhen: isStepCount(5),
    tools: {
      depth: tool({
        description: "How deep a river is.",
        inputSchema: z.object({ river: z.string() }),
        execute: async ({ river }) => {
          asked.push(river);
          return `${river}: 3 m`;
        },
      }),
    },
  });

  test(`${name}: steps of tools, whole`, async () => {
    const asked = [];
    const answer = await generateText(ask(asked));
    assert.equal(answer.text, "Three metres.");
    assert.deepEqual(asked, ["Süß"]);
    assert.equal(answer.steps.length, 2);
    assert.ok(answer.totalUsage.inputTokens > 20);
  });

  test(`${name}: steps of tools, streamed`, async () => {
    const asked = [];
    const answer = streamText(ask(asked));
    let text = "";
    for await (const delta of answer.textStream) text += delta;
    assert.equal(text, "Three metres.");
    assert.deepEqual(asked, ["Süß"]);
    assert.equal(await answer.finishReason, "stop");
  });

  test(`${name}: an object of a schema`, async () => {
    const given = { deep: true, kind: "lake" };
    const schema = z.object({ deep: z.boolean(), kind: z.enum(["river", "lake"]) });
    // It asks a model of Anthropic's that it does not know for a call of a tool.
    const said = name === "messages" ? call("json", given) : JSON.stringify(given);
    const answer = await generateObject({ model: modelSaying(said), schema, prompt, maxRetries: 0 });
    assert.deepEqual(answer.object, given);
  });
}

test("messages: an object of a schema that is sent as one", async () => {
  const answer = await generateObject({
    model: apis.messages(JSON.stringify({ deep: true })),
    schema: z.object({ deep: z.boolean() }),
    prompt,
    maxRetries: 0,
    providerOptions: { anthropic: { structuredOutputMode: "outputFormat" } },
  });
  assert.deepEqual(answer.object, { deep: true });
});

test("an embedding", async () => {
  const model = createOpenAI({ baseURL: `${SERVER}/v1`, apiKey: "none" }).textEmbeddingModel(MODEL);
  const answer = await embed({ model, value: "a river", maxRetries: 0 });
  assert.ok(answer.embedding.every(Number.isFinite));
});
