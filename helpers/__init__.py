"""What the notebooks share: eight rooms, in the order in which a review walks through them, and a workshop.

    core      all          where am I, files, work_dir, the Hub, pictures
    collect   01           reviews from Bright Data or a file
    clean     02, 03       tidied, personal data out, Markdown, chunks
    ask       03, 04       a teacher's questions and answers, the gate, the split
    train     00, 05       the model, what it sees, LoRA, checkpoints
    prove     06, 07       base against tuned, with intervals; chat
    publish   04, 08       data set, cards, merged weights, GGUF, the parity gate
    sql       09           the other track: text to SQL
    pipeline  make         the workshop: runs the notebooks, writes the report; no notebook imports it

A room imports only from rooms above it; sql from all but publish, pipeline from core alone. Importing is cheap: torch,
transformers, unsloth and datasets are imported inside the functions that need them. docs/code.md names every module.
"""
