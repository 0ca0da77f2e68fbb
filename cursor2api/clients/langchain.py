"""LangChain: a program in Python, over chat completions."""

from . import Client, File, Gateway, quoted


def files(gateway: Gateway) -> tuple[File, ...]:
    return File("agent.py", "python", f"""\
from langchain_openai import ChatOpenAI  # pip install langchain-openai

model = ChatOpenAI(
    base_url={quoted(gateway.address + "/v1")},
    api_key={quoted(gateway.key)},
    model={quoted(gateway.model)},
    use_responses_api=False,
)
print(model.invoke("Hello").content)
"""),


CLIENT = Client(
    "langchain", "LangChain", files, "python agent.py",
    turn_off=(),
    cannot=("LangChain mends the JSON of a call that was cut, and takes it for a call: with TOOL_STREAMING=whole "
            "the service sends nothing of such a call.",
            "ChatOpenAI does not show the thinking in reasoning_content.",
            "OpenAIEmbeddings does not work, because the service has no embeddings."),
    tried="langchain-openai 1.7.3")
