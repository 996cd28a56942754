// Vercel's AI SDK, which most web applications use: its steps of tools, its streams and objects, over each API that it speaks.

import assert from "node:assert/strict";
import { test } from "node:test";

import { createOpenAI } from "@ai-sdk/openai";
import { embed, generateObject, generateText, isStepCount, streamText, tool } from "ai";
import { z } from "zod";

import { call, MODEL, saying, SERVER, thought } from "./forcing.mjs";

const prompt = "How deep is the river?";
const openai = (...texts) => createOpenAI({ baseURL: `${SERVER}/v1`, apiKey: "none", fetch: saying(...texts) });
const apis = {
  chat: (...texts) => openai(...texts).chat(MODEL),
  responses: (...texts) => openai(...texts).responses(MODEL),
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
    const answer = await generateObject({ model: modelSaying(JSON.stringify(given)), schema, prompt, maxRetries: 0 });
    assert.deepEqual(answer.object, given);
  });
}

test("an embedding", async () => {
  const model = createOpenAI({ baseURL: `${SERVER}/v1`, apiKey: "none" }).textEmbeddingModel(MODEL);
  const answer = await embed({ model, value: "a river", maxRetries: 0 });
  assert.ok(answer.embedding.every(Number.isFinite));
});
