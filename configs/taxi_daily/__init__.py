"""Chicago taxi as its data grows: the newest spans, every night."""
