from helpers.pipeline.run import main

raise SystemExit(main())
