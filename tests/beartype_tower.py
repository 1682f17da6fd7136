"""The type checker of the suite: beartype, with an int accepted where a float is meant, as PEP 484 says."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
