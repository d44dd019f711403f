"""lightning-lazy: how far does a network move from its initialisation while it learns?"""
