"""LangChain: its OpenAI and Anthropic packages for Python."""

from . import Client, File, Service, quoted


def files(service: Service) -> tuple[File, ...]:
    return File("", "python", f"""from langchain_openai import ChatOpenAI

model = ChatOpenAI(model={quoted(service.model)}, base_url={quoted(service.base)}, api_key={quoted(service.key)})
print(model.invoke("Hello").content)
"""),


CLIENT = Client(
    "langchain", "LangChain", files, None,
    ("Set TOOL_STREAMING=whole in this service: LangChain mends the JSON of a call that was cut, and takes it for "
     "a call.",),
    ("Embeddings are not there.", "ChatOpenAI does not show thinking; ChatAnthropic does."),
    "langchain-openai 1.7.3")
