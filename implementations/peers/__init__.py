"""Operators of other libraries, called in their strongest form.

Each adapter is short enough to be read by the authors of what it calls. Whoever knows a faster or a
more exact way to call their own library: please change it here.
"""
