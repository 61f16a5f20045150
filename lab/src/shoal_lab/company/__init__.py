"""The payment company: five services as they would be written by people who use shoal.

Each module declares one service; `pod` runs one of them as a process. Nothing here knows the lab around it.
"""
