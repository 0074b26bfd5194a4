"""Chicago taxi: will the tip exceed a fifth of the fare?"""
