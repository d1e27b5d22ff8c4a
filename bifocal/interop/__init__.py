"""Models of other libraries, read and written exactly: OpenAI, open_clip, Hugging Face."""
