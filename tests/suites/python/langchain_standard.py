"""LangChain's standard tests of its own clients, on a server; SERVER and MODEL come from the environment.

Run by ``test_python_clients.py`` with packages of its own.
"""

from __future__ import annotations

import os

from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langchain_tests.integration_tests import ChatModelIntegrationTests, EmbeddingsIntegrationTests

SERVER, MODEL = os.environ["SERVER"], os.environ["MODEL"]
OPENAI = {"model": MODEL, "base_url": f"{SERVER}/v1", "api_key": "none", "max_retries": 0}


class TestChats(ChatModelIntegrationTests):
    chat_model_class = ChatOpenAI
    chat_model_params = {**OPENAI, "max_tokens": 200, "stream_usage": True}
    supports_json_mode = True
    model_override_value = MODEL


class TestResponses(TestChats):
    chat_model_params = {**OPENAI, "max_tokens": 200, "use_responses_api": True}


class TestMessages(ChatModelIntegrationTests):
    chat_model_class = ChatAnthropic
    chat_model_params = {"model": MODEL, "base_url": SERVER, "api_key": "none", "max_retries": 0, "max_tokens": 200}
    model_override_value = MODEL


class TestEmbeddings(EmbeddingsIntegrationTests):
    embeddings_class = OpenAIEmbeddings
    embedding_model_params = {**OPENAI, "check_embedding_ctx_length": False}  # else it counts with OpenAI's tokens
