"""The vocabulary of pamdi and every decision it takes.

Pure: no asyncio, no clock, no files, no GPU, no network. Time is an argument, a failure is an event with a name,
and what should happen next is a list of instructions. The daemon and the tests' pretend world run the same code.
"""
