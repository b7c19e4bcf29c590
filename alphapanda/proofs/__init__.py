"""Proofs: the same ticks give the same decisions in every lane, and depend on nothing else.

``case`` is what is proved, ``trace`` what one lane made of it and where two differ; ``research`` plays it in a plain
loop, ``platform`` in real processes; ``checks`` plays it in other ways that must change nothing, ``purity`` watches
what a callback touches, ``incident`` plays a past live day; ``proof`` puts all together into a certificate.
"""
