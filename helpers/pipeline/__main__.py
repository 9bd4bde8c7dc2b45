from helpers.pipeline.run import main

main()
