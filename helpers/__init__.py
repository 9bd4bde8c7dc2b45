"""Everything the notebooks share: a house of eight rooms, in the order in which a review walks through it.

    core      everybody's: where am I, files, work_dir, the Hub, pictures
    collect   01           reviews from Bright Data or a file
    clean     02, 03       cleaned, personal data out, Markdown, chunks
    ask       03, 04       a teacher's questions and answers, the gate, the split
    train     00, 05       the model, what it sees, LoRA, checkpoints
    prove     06, 07       base against tuned, with intervals; chat
    publish   04, 08       data set, cards, merged weights, GGUF, the parity gate
    sql       09           the other track: text to SQL
    pipeline  make         runs the notebooks and writes the report

A room imports from the rooms above it only; sql from train and prove, pipeline from core alone. Importing is cheap:
torch, transformers, unsloth and datasets are imported inside the functions that need them.
"""
