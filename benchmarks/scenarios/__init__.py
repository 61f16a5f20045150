"""What is known to go wrong with breakers, retries and bulkheads, tried on each library.

The letters are a: half-open and late results, b: cancellation, c: a storm of retries, d: nested retries, e: the wall
clock, f: errors that are answers, g: slow answers, h: threads and event loops.
"""
