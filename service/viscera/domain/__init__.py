"""The nouns: frozen values without I/O, that rooms hand to one another through `pipeline`.

In: nothing. Out: nothing. Fails: only on construction, with a class of `viscera.errors`.
"""
