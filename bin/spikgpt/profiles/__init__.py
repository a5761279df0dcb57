"""What a cell looks like among mean profiles of human tissues: a second opinion that needs no reference.

`library` holds the profiles, `correlation` and `regression` judge cells by them, `opinion` joins the two and says
nothing where they are not sure, `kinship` tells whether an opinion and a label contradict each other.
"""
